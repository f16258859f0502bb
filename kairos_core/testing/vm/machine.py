"""One virtual machine: what QEMU is told, its power switch, and the way in."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kairos_core.testing.lab import LabError, Output, Process
from kairos_core.testing.vm.channel import Channel
from kairos_core.testing.vm.disk import make_layer
from kairos_core.testing.vm.guest import Guest
from kairos_core.testing.vm.requirements import has_kvm
from kairos_core.testing.vm.system import System

BOOTED = 180.0
"""Seconds for a boot. Measured without KVM: 10 s alone; the rest is for three at once on a busy machine."""

ANSWERED = 15.0
"""Seconds for a trifle in a machine that is up, without KVM and on a busy host."""

TRANSLATED = 64
"""Megabytes for what QEMU has translated, without KVM. More makes each reset slower: it clears them all."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a machine is made of; `clock` is how many seconds its clock is off, `link` words for its kernel."""

    number: int
    clock: float
    link: str
    bundle: Path
    megabytes: int = 384

    @property
    def mac(self) -> str:
        """The hardware address: locally administered (IEEE 802, second bit of the first octet)."""
        return f"02:6b:61:69:76:{self.number:02x}"


class VirtualMachine:
    """A machine that runs programs, reboots, and loses its power. Made by `VirtualLab.boot`."""

    def __init__(self, name: str, hardware: Hardware, system: System, directory: Path) -> None:
        directory.mkdir()
        self.name, self.directory = name, directory
        self.guest = Guest(name, directory / "guest")
        self._hardware, self._system = hardware, system
        self._monitor = Channel(directory / "monitor")
        self._qemu: Process | None = None

    def __repr__(self) -> str:
        return f"VirtualMachine({self.name})"

    async def start(self, enter: list[str]) -> None:
        """Switch on behind the `nsenter` words of `enter`, and wait until it has booted. Raises LabError."""
        make_layer(self._system.disk, self.directory / "disk.qcow2")
        log = self.directory / "qemu.log"
        self._qemu = await Process.spawn(enter, self._argv(), log, {"PATH": os.environ.get("PATH", os.defpath)})
        deadline = time.monotonic() + 30
        while not await self._is_monitored():
            if not self._qemu.is_running or time.monotonic() > deadline:
                raise LabError(f"QEMU does not start for {self.name}: {self._qemu.last_lines()}")
            await asyncio.sleep(0.05)
        await self._monitor.ask("qmp_capabilities")
        await self._booted()

    async def _is_monitored(self) -> bool:
        """Say whether QEMU listens; its socket is there a moment before."""
        try:
            await self._monitor.open()
        except LabError:
            return False
        return True

    async def _booted(self) -> None:
        """Wait until the machine answers and systemd has started what it was to start. Raises LabError."""
        try:
            await self.guest.wait(BOOTED)
        except LabError as error:
            raise LabError(f"{error}. The end of its console:\n{self._console()}") from None
        await self.run("systemctl", "is-system-running", "--wait", check=False, timeout=BOOTED)

    async def run(
        self,
        *command: str,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 60.0,
    ) -> Output:
        """Run a program to its end. Raises LabError when it takes longer, or (`check`) when it fails."""
        output = await self.guest.run(command, env=env or {}, stdin=stdin.encode(), timeout=timeout)
        if check and output.code:
            said = " ".join((output.stderr or output.stdout).split())
            raise LabError(f"{self.name}: {command[0]} failed ({output.code}): {said or 'without a word'}")
        return output

    async def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, readable by others only if `mode` says so."""
        script = 'umask 077 && mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        await self.run("sh", "-c", script, "write", path, f"{mode:o}", stdin=text)

    async def _boot_id(self) -> str:
        """Return what tells this boot from others. Source: random(4)."""
        return (await self.run("cat", "/proc/sys/kernel/random/boot_id")).stdout.strip()

    async def reboot(self) -> None:
        """Reboot by systemd: programs are told to end; returns when the machine is back. Raises LabError."""
        before = await self._boot_id()
        await self.guest.reboot()
        await self._is_back(before)

    async def reset(self) -> None:
        """Cut the power for a moment, and wait for the machine to be back. Nothing in it is told. Raises LabError."""
        before = await self._boot_id()
        await self._monitor.ask("system_reset")
        await self._is_back(before)

    async def _is_back(self, before: str) -> None:
        deadline = time.monotonic() + BOOTED
        now = before
        while now == before:
            if time.monotonic() > deadline:
                said = f"{self.name} did not boot again within {BOOTED:g} s"
                raise LabError(f"{said}. The end of its console:\n{self._console()}")
            await asyncio.sleep(0.5)
            with suppress(LabError, TimeoutError):  # it goes down just now, and answers that were due are lost
                await self.guest.wait(BOOTED)
                async with asyncio.timeout(ANSWERED):
                    now = await self._boot_id()
        await self._booted()

    async def journal(self, unit: str, lines: int = 40) -> str:
        """Return the end of what a unit said in this boot."""
        answer = await self.run(
            "journalctl", "-b", "-u", unit, "-o", "cat", "-n", str(lines), "--no-pager", check=False
        )
        return answer.stdout

    async def stop(self) -> None:
        """Cut the power for good."""
        self.guest.close()
        self._monitor.close()
        if self._qemu is not None:
            await self._qemu.kill()

    def _console(self) -> str:
        console = self.directory / "console.log"
        text = console.read_text(errors="replace") if console.exists() else ""
        return "\n".join(text.splitlines()[-15:])

    def _argv(self) -> list[str]:
        hardware, here = self._hardware, self.directory
        starts = datetime.now(UTC) + timedelta(seconds=hardware.clock)
        kernel = (
            "root=/dev/nvme0n1 rootfstype=ext4 rw console=ttyS0 quiet net.ifnames=0 mitigations=off panic=-1 audit=0 "
            f"systemd.show_status=0 systemd.hostname={self.name} systemd.machine_id={hardware.number:032x} "
            f"{hardware.link}"
        )
        devices = (
            # One controller with two disks, since two controllers may change places.
            *("nvme,serial=lab", "nvme-ns,drive=disk,nsid=1", "nvme-ns,drive=bundle,nsid=2"),
            *(f"virtio-net-pci,netdev=lan,mac={hardware.mac}", "virtio-rng-pci"),
            *("virtio-serial-pci", "virtserialport,chardev=guest,name=org.qemu.guest_agent.0"),
        )
        return [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"),
            *("-m", str(hardware.megabytes), *_processor()),
            *("-kernel", str(self._system.kernel), "-append", kernel),
            *("-rtc", f"base={starts:%Y-%m-%dT%H:%M:%S}"),
            *("-chardev", f"file,id=console,path={here}/console.log", "-serial", "chardev:console"),
            # What the host loses is no matter here; what the machine has not synced, a reset does lose.
            *("-drive", f"file={here}/disk.qcow2,if=none,id=disk,cache=unsafe,discard=unmap"),
            *("-drive", f"file={hardware.bundle},format=raw,readonly=on,if=none,id=bundle"),
            *("-netdev", f"tap,id=lan,ifname=tap{hardware.number},script=no,downscript=no"),
            *("-chardev", f"socket,id=guest,path={here}/guest,server=on,wait=off"),
            *("-qmp", f"unix:{here}/monitor,server=on,wait=off"),
            *(word for device in devices for word in ("-device", device)),
        ]


def _processor() -> list[str]:
    if has_kvm():
        return ["-accel", "kvm", "-cpu", "host"]
    # The plainest processor is the fastest to emulate: without it programs choose instructions that cost most here.
    return ["-accel", f"tcg,thread=multi,tb-size={TRANSLATED}", "-cpu", "qemu64"]
