"""A machine without Kairos, admitted by `kairos vpn peer add`, talks with every node by the file that it is given."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kairos_core.testing.agents import Agent, Network, Status, install_engine, launch, until
from kairos_core.testing.lab import Lab, LabError, Machine

pytestmark = pytest.mark.system

FORMED = 60.0
FILE = "/etc/kairos/phone.conf"


def is_formed(seen: list[Status]) -> bool:
    return all(len(status["machines"]) == 3 and status["me"]["engine"] == "ready" for status in seen)


async def eventually(holds: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > end:
            raise LabError(f"{what}: not within {seconds} s")
        await asyncio.sleep(0.2)


async def pings(machine: Machine, address: str) -> bool:
    return (await machine.run("ping", "-n", "-c1", "-W1", address, check=False)).code == 0


async def members(agent: Agent) -> dict[str, dict[str, Any]]:
    listed = json.loads((await agent.machine.run("kairos", "vpn", "peers", "--json")).stdout)
    return {each["name"]: each for each in listed}


async def join(phone: Machine, text: str) -> str:
    """Bring up what wg-quick would, with wireguard-go; return the peer's address."""
    said = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
    kept = [line for line in text.splitlines() if line.split(" = ")[0] not in ("Address", "MTU")]
    phone.path("/etc/wg.conf").write_text("\n".join(kept) + "\n")
    name = f"wg{phone.machine_id[:8]}"
    await phone.start("wireguard-go", "-f", name, env={"WG_PROCESS_FOREGROUND": "1"})

    async def is_there() -> bool:
        return (await phone.run("wg", "show", name, check=False)).code == 0

    await eventually(is_there, 10, "wireguard-go is up")
    await phone.run("wg", "setconf", name, "/etc/wg.conf")
    await phone.run("ip", "link", "set", name, "up", "mtu", said["MTU"])
    for address in said["Address"].split(", "):
        await phone.run("ip", "address", "add", address, "dev", name)
    return said["Address"].partition("/")[0]


async def test_an_admitted_peer_talks_with_every_node_until_it_is_removed(lab: Lab) -> None:
    install_engine(lab)
    machines = list(await asyncio.gather(*(lab.add(f"node-{number + 1}") for number in range(3))))
    phone = await lab.add("phone")
    agents = await launch(machines, Network.new(3))
    seen = await until(agents, is_formed, FORMED, "a cluster")
    addresses = [status["me"]["address"] for status in seen]

    added = ("kairos", "vpn", "peer", "add", "phone", "--generate-key", "--keepalive", "5", "--output", FILE)
    assert (await machines[1].run(*added)).stdout == ""
    file = machines[1].path(FILE)
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert text.count("[Peer]") == 3
    assert (await machines[1].run(*added, check=False)).code == 1  # the file exists

    own = await join(phone, text)
    for address, machine in zip(addresses, machines, strict=True):
        await eventually(lambda address=address: pings(phone, address), 15, f"the phone pings {address}")
        await eventually(lambda machine=machine: pings(machine, own), 5, f"{machine.name} pings the phone")

    for line in text.splitlines():
        if line.startswith("AllowedIPs"):
            ipv6 = line.split(", ")[1].partition("/")[0]
            await eventually(lambda ipv6=ipv6: pings(phone, ipv6), 5, f"the phone pings {ipv6}")

    async def is_up() -> bool:
        return all([(await members(agent)).get("phone", {}).get("state") == "up" for agent in agents])

    await eventually(is_up, 10, "every node shows the phone")
    shown = (await members(agents[0]))["phone"]
    assert (shown["kind"], shown["admitted_by"]) == ("guest", seen[1]["me"]["peer"])
    assert shown["endpoint"].startswith(f"{phone.ipv4}:")
    assert shown["received"] > 0
    state = json.loads((await machines[0].run("kairos", "vpn", "status", "--json")).stdout)
    assert (state["interface"], state["address"], state["peers"]) == ("kairos0", addresses[0], 3)
    assert "phone (guest)" in (await machines[0].run("kairos", "vpn", "peers")).stdout
    status = await agents[0].status()
    assert status is not None
    assert status["networks"]["vpn"]["sessions"] == 3

    elsewhere = await machines[0].run("kairos", "vpn", "peer", "remove", "phone", check=False)
    assert elsewhere.code == 1
    assert "was admitted by" in elsewhere.stderr
    await machines[1].run("kairos", "vpn", "peer", "remove", "phone")
    for address in addresses:
        await eventually(lambda address=address: _silent(phone, address), 10, f"{address} is silent")
    assert "phone" not in await members(agents[2])


async def _silent(phone: Machine, address: str) -> bool:
    return not await pings(phone, address)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_a_peer_survives_the_restart_of_who_admitted_it(lab: Lab, end: signal.Signals) -> None:
    install_engine(lab)
    machine, phone = await lab.add("node-1"), await lab.add("phone")
    (agent,) = await launch([machine], Network.new(1))
    (before,) = await until([agent], lambda seen: seen[0]["me"]["engine"] == "ready", FORMED, "a node")
    added = await machine.run("kairos", "vpn", "peer", "add", "phone", "--generate-key")
    own = await join(phone, added.stdout)
    await eventually(lambda: pings(phone, before["me"]["address"]), 10, "the phone pings")
    await agent.stop(end)
    await agent.start()
    (after,) = await until([agent], lambda seen: seen[0]["me"]["engine"] == "ready", FORMED, "the node again")
    assert after["me"]["address"] == before["me"]["address"] != own
    await eventually(lambda: pings(phone, before["me"]["address"]), 30, "the phone pings again")
    again = (await machine.run("kairos", "vpn", "peer", "show", "phone")).stdout
    assert f"Address = {own}/" in again
    assert "PUT-THE-PRIVATE-KEY-HERE" in again
