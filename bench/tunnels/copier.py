"""A program in C that does the least a userspace VPN can do: what the machine allows, to compare with."""

from __future__ import annotations

from pathlib import Path

from kairos_core.testing.lab import LabError, Machine
from tunnels.course import Course
from tunnels.tunnel import Tunnel, address_of, appeared, output_of

_SOURCE = Path(__file__).with_suffix(".c")
_GSO = ("gso_max_size", "60000")
"""As of our own device: longer packets would need more datagrams than one call may send."""


class Copier(Tunnel):
    """Between TUN and UDP by the same system calls as ours, and nothing else."""

    name, interface = "copier", "veth-copy"
    prefix, port, cipher = "10.24.0", 7777, "none"

    async def start(self, course: Course) -> None:
        one, two = course.machines
        self.hosts = address_of(one, self.prefix), address_of(two, self.prefix)
        await self._start(one, two, self.hosts[0])
        await self._start(two, one, self.hosts[1])

    async def _start(self, machine: Machine, other: Machine, address: str) -> None:
        program = machine.path(f"/run/bench/{self.name}")
        program.parent.mkdir(parents=True, exist_ok=True)
        try:
            output_of("cc", "-O2", "-Wall", "-o", str(program), str(_SOURCE), "-lcrypto")
        except LabError as error:
            raise LabError(f"cannot compile {_SOURCE.name}: {error}. It needs libc6-dev and libssl-dev.") from error
        words = (self.interface, machine.ipv4, other.ipv4, str(self.port), self.cipher)
        self.daemons.append(await machine.start(f"/run/bench/{self.name}", *words))
        await appeared(machine, self.interface)
        await machine.run("ip", "address", "add", f"{address}/24", "dev", self.interface)
        await machine.run("ip", "link", "set", self.interface, "mtu", "1420", *_GSO, "up")


class SealingCopier(Copier):
    """The same with AES-256-GCM, one record for each super-packet."""

    name, interface = "copier-aes", "veth-copyaes"
    prefix, port, cipher = "10.25.0", 7778, "aes"
