"""What runs between the two machines: the interface of each VPN here, the bare cable, and ours as a product."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kairos_core.testing.agents import Agent, Network, Status, until
from kairos_core.testing.lab import LabError, Machine, Process
from kairos_core.testing.mesh import ping
from tunnels.course import CABLE, Course

PATIENCE = 30.0
"""Seconds that a VPN has to carry its first ping."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What crossed an interface of the first machine so far, both ways, and the processor time of the daemons."""

    octets: int
    cpu: float


class Tunnel(ABC):
    """One VPN between both machines. `interface` is its device on either, `hosts` are its two addresses."""

    name: str
    interface: str

    def __init__(self) -> None:
        self.hosts: tuple[str, str] = ("", "")
        self.daemons: list[Process] = []

    @abstractmethod
    async def start(self, course: Course) -> None:
        """Configure and start it on both machines. Sets `hosts` and `daemons`. Raises LabError."""

    async def is_up(self, course: Course) -> None:
        """Wait until it carries a ping each way. Raises LabError."""
        for source, target in ((course.one, self.hosts[1]), (course.two, self.hosts[0])):
            deadline = time.monotonic() + PATIENCE
            while await ping(source, target) is None:
                for daemon in self.daemons:
                    if not daemon.is_running:
                        raise LabError(f"{self.name} has ended:\n{daemon.last_lines()}")
                if time.monotonic() > deadline:
                    said = "\n".join(daemon.last_lines(5) for daemon in self.daemons)
                    raise LabError(f"{self.name} carries no ping within {PATIENCE:g} s:\n{said}")

    async def traffic(self, course: Course) -> Traffic:
        """Return the counters now."""
        shown = await course.one.run("ip", "-json", "-statistics", "link", "show", "dev", self.interface)
        counts = json.loads(shown.stdout)[0]["stats64"]
        cpu = sum([cpu_of_tree(await daemon.pid()) for daemon in self.daemons])
        return Traffic(counts["rx"]["bytes"] + counts["tx"]["bytes"], cpu)


class Bare(Tunnel):
    """No VPN at all."""

    name, interface = "bare", CABLE

    async def start(self, course: Course) -> None:
        self.hosts = course.hosts


class Ours(Tunnel):
    """Two agents that find each other, without Kubernetes: discovery, gossip, ledger, leases and all.

    Its processor time is that of the agents and of their data planes.
    """

    name, interface = "ours", "kairos0"
    agents: list[Agent]

    async def start(self, course: Course) -> None:
        network = Network.new(2)
        agents = self.agents = [self.agent(machine) for machine in course.machines]
        for agent in agents:
            agent.configure(network.cloud_config(auto={"enable": False}))
            await agent.start()
        self.daemons = [agent.process for agent in agents if agent.process is not None]

        def attached(seen: list[Status]) -> bool:
            return all(status["me"]["address"] for status in seen)

        seen = await until(agents, attached, PATIENCE, "a VPN between two agents")
        one, two = (str(status["me"]["address"]) for status in seen)
        self.hosts = one, two

    def agent(self, machine: Machine) -> Agent:
        """Return the agent of a machine, not started yet."""
        return Agent(machine)


async def data_plane(agent: Process) -> int:
    """Return the process of an agent's data plane. Raises LabError."""
    for pid in descendants(await agent.pid()):
        if "kairos_net_vpn.dataplane" in command_line(pid):
            return pid
    raise LabError(f"the agent has no data plane: {agent.last_lines(3)}")


def address_of(machine: Machine, prefix: str) -> str:
    """Return the address of a machine in a VPN whose first three numbers are `prefix`."""
    return f"{prefix}.{machine.link.host}"


def write_secret(machine: Machine, inside: str, text: str) -> str:
    """Write a file of a machine, readable by its root only; return its path inside."""
    path = machine.path(inside)
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    return inside


def output_of(*words: str, stdin: str | None = None) -> str:
    """Run a program here and return what it prints. Raises LabError with what it said."""
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise LabError(f"{words[0]} failed ({done.returncode}): {' '.join((done.stderr or done.stdout).split())}")
    return done.stdout


async def appeared(machine: Machine, interface: str) -> None:
    """Wait until a daemon has made its device. Raises LabError."""
    deadline = time.monotonic() + PATIENCE
    while (await machine.run("ip", "link", "show", "dev", interface, check=False)).code:
        if time.monotonic() > deadline:
            raise LabError(f"{machine.name} has no {interface} after {PATIENCE:g} s")
        await asyncio.sleep(0.05)


def cpu_of_tree(pid: int) -> float:
    """Return the processor time of a process and its descendants in seconds, ended threads and children included."""
    return sum(cpu_seconds(each) for each in (pid, *descendants(pid)))


def cpu_seconds(pid: int) -> float:
    """Return user and system time, of waited-for children too (proc(5), stat: utime to cstime, in ticks)."""
    with suppress(OSError):
        return sum(map(int, _stat(pid)[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started, and those that they have."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                parents.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    waiting = list(parents.get(pid, ()))
    while waiting:
        child = waiting.pop()
        yield child
        waiting += parents.get(child, ())


def command_line(pid: int) -> list[str]:
    """Return the words with which a process was started; none when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def _stat(pid: int) -> list[str]:
    # The name in parentheses may hold anything, so fields are counted from its end.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
