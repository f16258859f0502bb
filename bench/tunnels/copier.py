"""Programs that do the least a userspace VPN can do, in C and in Python: what the machine allows, to compare with."""

from __future__ import annotations

import sys
from pathlib import Path

from kairos_net_vpn.device import GSO_MAX_SIZE

from kairos_core.testing.lab import LabError, Machine
from tunnels.course import Course
from tunnels.tunnel import Tunnel, address_of, appeared, output_of

_SOURCE = Path(__file__).with_suffix(".c")
_LOOP = Path(__file__).with_name("copier_loop.py")
_GSO = ("gso_max_size", str(GSO_MAX_SIZE))
"""As of our own device."""


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
        words = (self.interface, machine.ipv4, other.ipv4, str(self.port))
        self.daemons.append(await machine.start(*self._command(machine, words)))
        await appeared(machine, self.interface)
        await machine.run("ip", "address", "add", f"{address}/24", "dev", self.interface)
        await machine.run("ip", "link", "set", self.interface, "mtu", "1420", *_GSO, "up")

    def _command(self, machine: Machine, words: tuple[str, ...]) -> tuple[str, ...]:
        """Return what to run on a machine. Raises LabError."""
        program = machine.path(f"/run/bench/{self.name}")
        program.parent.mkdir(parents=True, exist_ok=True)
        try:
            output_of("cc", "-O2", "-Wall", "-o", str(program), str(_SOURCE), "-lcrypto")
        except LabError as error:
            raise LabError(f"cannot compile {_SOURCE.name}: {error}. It needs libc6-dev and libssl-dev.") from error
        return (f"/run/bench/{self.name}", *words, self.cipher)


class SealingCopier(Copier):
    """The same with AES-256-GCM, one record for each super-packet."""

    name, interface = "copier-aes", "veth-copyaes"
    prefix, port, cipher = "10.25.0", 7778, "aes"


class PythonCopier(Copier):
    """What SealingCopier does, in Python, as bare as it can be written."""

    name, interface = "copier-py", "veth-copypy"
    prefix, port = "10.26.0", 7779

    def _command(self, machine: Machine, words: tuple[str, ...]) -> tuple[str, ...]:
        return (sys.executable, str(_LOOP), *words)
