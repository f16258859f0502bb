"""What changes in a cluster that stands: its join token, and the addresses of its masters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kairos_core.testing.agents import Agent, Network, Status, install_engine, until
from kairos_core.testing.lab import Lab

pytestmark = pytest.mark.system

FORMED = 60.0
"""Seconds for a cluster to stand. Measured: 2 to 5 s; the rest is for a slow machine."""

NO_VPN = {"create": False, "use": False}
DATA = "/var/lib/rancher/k3s/server"


def all_ready(seen: list[Status]) -> bool:
    return all(status["me"]["engine"] == "ready" for status in seen)


async def started(lab: Lab, nodes: int, network: Network, **p2p: object) -> list[Agent]:
    install_engine(lab)
    await asyncio.gather(*[lab.add(f"node-{number + 1}") for number in range(nodes)])
    agents = [Agent(machine) for machine in lab.machines]
    for agent in agents:
        agent.configure(network.cloud_config(**p2p))
    await asyncio.gather(*[agent.start() for agent in agents])
    return agents


def roles(agents: list[Agent], seen: list[Status]) -> dict[str, list[Agent]]:
    found: dict[str, list[Agent]] = {}
    for agent, status in zip(agents, seen, strict=True):
        found.setdefault(status["me"]["role"], []).append(agent)
    return found


def read(agent: Agent, *names: str) -> str:
    """Return the text of the first of these files that is there."""
    files = [agent.machine.path(name) for name in names]
    return next((file.read_text() for file in files if file.exists()), "")


def pid(agent: Agent) -> str:
    return read(agent, "/run/kairos/k3s.pid", "/run/kairos/k3s-agent.pid").partition(" ")[0]


def next_token(agent: Agent) -> str:
    return read(agent, "/etc/rancher/k3s/k3s.env", "/etc/rancher/k3s/k3s-agent.env")


async def eventually(holds: Callable[[], bool], what: str, timeout: float = FORMED) -> None:
    deadline = asyncio.get_running_loop().time() + timeout
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"{what}: not within {timeout:g} s"
        await asyncio.sleep(0.1)


async def until_nodes(master: Agent, *parts: str) -> None:
    """Wait until each of these stands in a line of the node list that is Ready."""
    deadline, listed = asyncio.get_running_loop().time() + FORMED, ""
    while not all(any(part in line and " Ready " in line for line in listed.splitlines()) for part in parts):
        assert asyncio.get_running_loop().time() < deadline, f"{master.name} does not list {parts} as ready:\n{listed}"
        await asyncio.sleep(0.2)
        listed = (await master.machine.run("k3s", "kubectl", "get", "nodes", "-o", "wide", check=False)).stdout


async def start_kubernetes_again(agent: Agent) -> None:
    await agent.machine.run("kairos", "engine", "stop")
    await agent.machine.run("kairos", "engine", "start")
    await until([agent], all_ready, FORMED, f"{agent.name} starts again")


async def test_all_follow_a_rotated_join_token_and_a_newcomer_joins_with_it(lab: Lab) -> None:
    network = Network.new(4, 2)
    agents = await started(lab, 4, network)
    by_role = roles(agents, await until(agents, all_ready, FORMED, "a cluster with three masters"))
    [first], [one, _], [worker] = (by_role[role] for role in ("master/clusterinit", "master/ha", "worker"))
    pids = [pid(agent) for agent in agents]
    # Not on the first master, which all others would ask first.
    await one.machine.run("k3s", "token", "rotate", "--new-token=rotated-token")
    await eventually(lambda: all("rotated-token" in next_token(agent) for agent in agents), "all know the new token")
    await until(agents, all_ready, FORMED, "all are ready meanwhile")
    assert [pid(agent) for agent in agents] == pids, "what runs goes on"

    late = Agent(await lab.add("node-5"))
    late.configure(network.cloud_config(role="worker"))
    await late.start()
    [refused] = await until([late], lambda seen: seen[0]["me"]["engine"] == "failed", FORMED, "it comes too early")
    assert "401" in refused["me"]["message"]
    for agent in (one, first, *[agent for agent in agents if agent not in (one, first)]):
        await start_kubernetes_again(agent)
    [joined] = await until([late], all_ready, FORMED, "the newcomer joins as soon as the masters take the new token")
    assert joined["me"]["role"] == "worker"

    # And all of that lasts.
    everybody = [*agents, late]
    await asyncio.gather(*[agent.machine.power_off() for agent in everybody])
    await asyncio.gather(*[agent.machine.power_on() for agent in everybody])
    await asyncio.gather(*[agent.start() for agent in everybody])
    await until(everybody, all_ready, FORMED, "the cluster again")
    assert all("rotated-token" in next_token(agent) for agent in everybody)
    await until_nodes(first, *[agent.name for agent in everybody])
    assert "K10" in next_token(worker)


async def comes_back_elsewhere(agent: Agent, host: int) -> str:
    """Switch a machine off and on again, with another address as DHCP might give it one; return that."""
    machine, address = agent.machine, f"192.168.77.{host}"
    await machine.power_off()
    await machine.power_on()
    await machine.run("ip", "address", "flush", "dev", "eth0", "scope", "global")
    await machine.run("ip", "address", "add", f"{address}/24", "brd", "+", "dev", "eth0")
    await machine.run("ip", "route", "replace", "default", "via", "192.168.77.254")
    await agent.start()
    return address


async def test_a_worker_finds_its_only_master_at_another_address(lab: Lab) -> None:
    agents = await started(lab, 3, Network.new(3), vpn=NO_VPN)
    by_role = roles(agents, await until(agents, all_ready, FORMED, "a cluster"))
    [master], workers = by_role["master"], by_role["worker"]
    before = {worker.name: pid(worker) for worker in workers}
    address = await comes_back_elsewhere(master, 150)
    await until(agents, all_ready, FORMED, "the master is back")
    await eventually(lambda: all(f"https://{address}:6443" in next_token(agent) for agent in workers), "they follow")
    await eventually(lambda: all(pid(w) not in ("", before[w.name]) for w in workers), "their k3s starts again")
    await until_nodes(master, address, *[agent.name for agent in agents])


@pytest.mark.parametrize("role", ["master/ha", "master/clusterinit"])
async def test_one_of_three_masters_with_another_address_is_told_how_to_come_back(lab: Lab, role: str) -> None:
    agents = await started(lab, 3, Network.new(3, 2), vpn=NO_VPN)
    by_role = roles(agents, await until(agents, all_ready, FORMED, "three masters"))
    moved = by_role[role][0]
    others = [agent for agent in agents if agent is not moved]
    pids = [pid(agent) for agent in others]
    address = await comes_back_elsewhere(moved, 150)
    [lost] = await until([moved], lambda seen: seen[0]["me"]["engine"] == "failed", FORMED, "it says what is wrong")
    assert f"now it has {address}" in lost["me"]["message"]
    assert f"kubectl delete node {moved.name}" in lost["me"]["message"]
    assert "new-address.md" in lost["me"]["message"]
    await until(others, all_ready, FORMED, "the others go on")
    assert [pid(agent) for agent in others] == pids

    # What docs/how-to/new-address.md says.
    await moved.stop()
    await moved.machine.run("kairos", "engine", "stop")
    await others[0].machine.run("k3s", "kubectl", "delete", "node", moved.name)
    await moved.machine.run("mv", f"{DATA}/db", f"{DATA}/db.old")
    if role == "master/clusterinit":
        other = f"--server=https://{others[0].machine.ipv4}:6443"
        name = (f"--node-name={moved.name}", f"--node-ip={address}")
        by_hand = await moved.machine.start("k3s", "server", other, f"--token-file={DATA}/token", *name, log="by-hand")
        await until_nodes(others[1], address)
        await by_hand.kill()
    await moved.start()
    await until(agents, all_ready, FORMED, "it is a master again")
    await until_nodes(others[0], address, *[agent.name for agent in agents])
