"""The Linux kernel's own WireGuard, in a machine with Debian's kernel, as a peer of an agent in another machine.

Function only: without KVM these machines are a hundred times slower than what they run on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from kairos_core.testing.agents import Network, until
from kairos_core.testing.vm import VirtualAgent, VirtualLab, VirtualMachine

pytestmark = [pytest.mark.vm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
UNIT = """[Service]
ExecStart=/usr/local/bin/kairos start
[Install]
WantedBy=multi-user.target
"""
FORMED = 300.0
REKEYED = 125
"""Seconds after which the kernel has renewed a session that is used: 120, and what its timers take."""
SIZE = 2_000_000

RECEIVE = f"""
import socket, sys
with socket.create_server((sys.argv[1], 5001)) as server:
    server.settimeout(120)
    connection, _ = server.accept()
    received = 0
    while data := connection.recv(65536):
        received += len(data)
        if data.strip(bytes([7])):
            sys.exit("altered")
    print(received)
assert received == {SIZE}
"""
SEND = f"""
import socket, sys, time
for attempt in range(60):
    try:
        connection = socket.create_connection((sys.argv[1], 5001), 30)
        break
    except OSError:
        time.sleep(1)
connection.settimeout(120)
connection.sendall(bytes([7]) * {SIZE})
connection.shutdown(socket.SHUT_WR)
connection.recv(1)
"""


class Kernel:
    """The kernel's WireGuard on one machine, made by the file that the node gave out."""

    def __init__(self, machine: VirtualMachine, text: str) -> None:
        self.machine = machine
        said = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
        self.addresses, self.mtu = said["Address"].split(", "), said["MTU"]
        self.address, self.node = self.addresses[0].partition("/")[0], said["AllowedIPs"].partition("/")[0]
        kept = [line for line in text.splitlines() if line.split(" = ")[0] not in ("Address", "MTU")]
        self.config = "\n".join(kept) + "\n"

    async def up(self) -> None:
        await self.machine.write("/etc/wg.conf", self.config, 0o600)
        for command in (
            "ip link add wg0 type wireguard",
            "wg setconf wg0 /etc/wg.conf",
            f"ip link set wg0 up mtu {self.mtu}",
            *(f"ip address add {address} dev wg0" for address in self.addresses),
        ):
            await self.machine.run(*command.split())

    async def handshake(self) -> int:
        return int((await self.machine.run("wg", "show", "wg0", "latest-handshakes")).stdout.split()[-1])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[tuple[VirtualAgent, Kernel]]:
    """An agent that is a cluster of its own, and a machine without one that it has admitted."""
    projects = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
    async with VirtualLab(projects) as lab:
        node, stock = await lab.boot("node-1", "stock")
        agent = VirtualAgent(node, UNIT)
        await agent.install(Network.new(1).cloud_config())
        await agent.start()
        await until([agent], lambda seen: bool(seen[0]["networks"].get("vpn")), FORMED, "the VPN is up")
        add = ("kairos", "vpn", "peer", "add", "stock", "--generate-key", "--keepalive", "25")
        kernel = Kernel(stock, (await node.run(*add, timeout=120)).stdout)
        await kernel.up()
        yield agent, kernel


async def ping(machine: VirtualMachine, address: str, *options: str) -> int:
    """Return how many of the pings were answered."""
    answer = await machine.run("ping", "-n", "-W5", *options, address, check=False, timeout=REKEYED + 60)
    return int(re.findall(r"(\d+) received", answer.stdout)[0])


async def test_the_kernel_has_a_session_with_the_agent(pair: tuple[VirtualAgent, Kernel]) -> None:
    agent, kernel = pair
    link = (await kernel.machine.run("ip", "-details", "link", "show", "wg0")).stdout
    assert "wireguard" in link
    assert await ping(kernel.machine, kernel.node, "-c10") >= 9  # the first may wait for the handshake
    assert await kernel.handshake() > 0
    assert await ping(agent.machine, kernel.address, "-c10", "-s1392") == 10


@pytest.mark.parametrize("from_kernel", [True, False], ids=["from the kernel", "to the kernel"])
async def test_tcp_carries_every_byte(pair: tuple[VirtualAgent, Kernel], from_kernel: bool) -> None:
    agent, kernel = pair
    sender, receiver, address = (
        (kernel.machine, agent.machine, kernel.node) if from_kernel else (agent.machine, kernel.machine, kernel.address)
    )
    received, _ = await asyncio.gather(
        receiver.run("python3", "-c", RECEIVE, address, timeout=300),
        sender.run("python3", "-c", SEND, address, timeout=300),
    )
    assert received.stdout.strip() == str(SIZE)


async def test_the_kernel_renews_the_session_under_way(pair: tuple[VirtualAgent, Kernel]) -> None:
    _, kernel = pair
    before = await kernel.handshake()
    assert await ping(kernel.machine, kernel.node, f"-c{REKEYED}", "-i1") >= REKEYED - 1
    assert await kernel.handshake() > before


async def test_a_restarted_agent_is_reached_again(pair: tuple[VirtualAgent, Kernel]) -> None:
    agent, kernel = pair
    await agent.machine.run("systemctl", "restart", "kairos")
    await until([agent], lambda seen: bool(seen[0]["networks"].get("vpn")), FORMED, "the VPN is up again")
    assert await ping(kernel.machine, kernel.node, "-c40", "-i1") > 5
    assert await ping(agent.machine, kernel.address, "-c5") == 5
