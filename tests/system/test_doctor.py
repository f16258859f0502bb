"""The doctor on a machine that is well, and on one with each of many faults: it finds each, and only that one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from kairos_core.testing.agents import Agent, Network, install_engine, launch, until
from kairos_core.testing.lab import Lab, Machine

pytestmark = pytest.mark.system

CONFIG = "/etc/kairos/kairos.yaml"
ADD = f"cp -p {CONFIG} /run/free; printf '%s\\n'"
HOLD = (
    'python3 -c \'import socket as s, time; h = s.socket(type=s.{}); h.bind(("", {})); '
    'h.type == s.SOCK_DGRAM or h.listen(); open("/run/held", "w"); time.sleep(100)\' >/dev/null 2>&1 & '
    "echo $! > /run/holder; until [ -e /run/held ]; do sleep 0.1; done"
)
RELEASE = f"kill $(cat /run/holder); rm /run/held; cp -p /run/free {CONFIG}"
SHUT = (
    "nft add table inet guard; nft 'add chain inet guard input { type filter hook input priority 0; }'; "
    "nft add rule inet guard input udp dport 51820 drop"
)
FAULTS = {
    # check: (what plants the fault, what takes it away)
    "LAN": ("ip link set eth0 down", "ip link set eth0 up"),
    "secrecy": (f"chmod 644 {CONFIG}", f"chmod 600 {CONFIG}"),
    "firewall": (
        "nft add table inet guard; "
        "nft 'add chain inet guard input { type filter hook input priority 0; policy drop; }'; "
        "nft add rule inet guard input ct state established,related accept; "
        "nft add rule inet guard input tcp dport 22 accept",
        "nft delete table inet guard",
    ),
    "tunnel device": ("mount -t tmpfs none /dev/net", "umount /dev/net"),
    "MTU": ("ip link set eth0 mtu 1280", "ip link set eth0 mtu 1500"),
    "cgroups": (
        "grep -v ^memory /proc/cgroups > /run/cgroups; mount --bind /run/cgroups /proc/cgroups; "
        "mount -t tmpfs none /sys/fs/cgroup",
        "umount /proc/cgroups; umount /sys/fs/cgroup",
    ),
    "VPN addresses": (
        "ip link add lan1 type veth peer name lan2; ip address add 10.1.0.9/24 dev lan1; ip link set lan1 up",
        "ip link delete lan1",
    ),
    "k3s": ("mount --bind /dev/null {k3s}", "umount {k3s}"),
    "configuration": (
        f"cp -p {CONFIG} /run/good; echo '  unheard_of: 1' >> {CONFIG}",
        f"cp -p /run/good {CONFIG}",
    ),
    "peer ports": (f"{ADD} '  transport: {{port: 7400}}' >> {CONFIG}; {HOLD.format('SOCK_STREAM', 7400)}", RELEASE),
    "VPN port": (f"{ADD} '  vpn: {{port: 51820}}' >> {CONFIG}; {HOLD.format('SOCK_DGRAM', 51820)}", RELEASE),
    "Kubernetes ports": (f"{ADD} >> {CONFIG}; {HOLD.format('SOCK_STREAM', 6443)}", RELEASE),
    "disk": ("mount -t tmpfs -o size=100m none /var/lib/kairos", "umount /var/lib/kairos"),
}


async def wrong(machine: Machine) -> dict[str, str]:
    """Return what the doctor finds wrong, by check."""
    answer = await machine.run("kairos", "doctor", "--json", check=False)
    found = {each["check"]: each["message"] for each in json.loads(answer.stdout) if each["verdict"] == "wrong"}
    assert answer.code == bool(found)
    return found


@asynccontextmanager
async def planted(machine: Machine, check: str) -> AsyncIterator[None]:
    plant, mend = FAULTS[check]
    k3s = (await machine.run("sh", "-c", "command -v k3s")).stdout.strip()
    await machine.run("sh", "-c", plant.replace("{k3s}", k3s))
    try:
        yield
    finally:
        await machine.run("sh", "-c", mend.replace("{k3s}", k3s))


async def test_each_planted_fault_is_found_and_nothing_else(lab: Lab) -> None:
    install_engine(lab)
    machine = await lab.add("node-1")
    agent = Agent(machine)
    agent.configure(Network.new(1).cloud_config())
    assert set(await wrong(machine)) == {"agent"}, "the agent does not run yet; all else is well"
    for check in FAULTS:
        async with planted(machine, check):
            found = await wrong(machine)
        assert check in found, (check, found)
        assert set(found) <= {check, "agent"}, (check, found)
    assert set(await wrong(machine)) == {"agent"}, "every fault was taken away again"


async def test_on_a_node_that_is_well_nothing_is_wrong(lab: Lab) -> None:
    install_engine(lab)
    for name in ("node-1", "node-2"):
        await lab.add(name)
    agents = await launch(lab.machines, Network.new(2))
    await until(agents, lambda seen: all(each["me"]["engine"] == "ready" for each in seen), 60, "a cluster of two")
    for machine in lab.machines:
        assert await wrong(machine) == {}
    await lab.machines[0].run("ip", "link", "set", "kairos0", "down")
    assert "VPN tunnel" in await wrong(lab.machines[0])
    await lab.machines[0].run("ip", "link", "set", "kairos0", "up")
    assert await wrong(lab.machines[0]) == {}


async def test_a_network_that_reaches_nobody_is_found(lab: Lab) -> None:
    install_engine(lab)
    for name in ("node-1", "node-2"):
        machine = await lab.add(name)
        await machine.run("sh", "-c", SHUT)
    agents = await launch(lab.machines, Network.new(2), vpn={"port": 51820})
    await until(agents, lambda seen: all(len(each["machines"]) == 2 for each in seen), 60, "that they meet")
    async with asyncio.timeout(60):
        while "VPN peers" not in (found := await wrong(lab.machines[0])):  # noqa: ASYNC110
            await asyncio.sleep(1.0)
    assert "node-2, the only other node here, cannot be reached" in found["VPN peers"]


async def test_a_kubernetes_that_an_agent_has_left_is_looked_after(lab: Lab) -> None:
    install_engine(lab)
    machine = await lab.add("node-1")
    [agent] = await launch(lab.machines, Network.new(1))
    await until([agent], lambda seen: seen[0]["me"]["engine"] == "ready", 60, "a cluster of one")
    await agent.stop()
    assert set(await wrong(machine)) == {"agent"}, "Kubernetes goes on without its agent"
    await machine.run("sh", "-c", "kill -STOP $(cut -d' ' -f1 /run/kairos/k3s.pid)")
    found = await wrong(machine)
    assert set(found) == {"agent", "Kubernetes"}
    assert "the API server is silent" in found["Kubernetes"]
    await machine.run("sh", "-c", "kill -CONT $(cut -d' ' -f1 /run/kairos/k3s.pid)")
    assert set(await wrong(machine)) == {"agent"}
    await machine.run("sh", "-c", "kill -KILL $(cut -d' ' -f1 /run/kairos/k3s.pid)")
    found = await wrong(machine)
    assert set(found) == {"agent", "Kubernetes"}
    assert "k3s has ended" in found["Kubernetes"]
