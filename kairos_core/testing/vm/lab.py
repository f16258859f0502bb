"""Virtual machines on one bridge in a namespace: nothing appears in the host's network, and nothing is left behind."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from kairos_core.testing.lab import LabError
from kairos_core.testing.lab.namespaces import Namespaces, must_run
from kairos_core.testing.vm.bundle import make_bundle
from kairos_core.testing.vm.cable import Cable
from kairos_core.testing.vm.machine import Hardware, VirtualMachine
from kairos_core.testing.vm.requirements import check_requirements
from kairos_core.testing.vm.system import find_system

PREFIX4, PREFIX6 = "192.168.78", "fd78:7878:7878::"
_HUB = Path(__file__).parents[1] / "lab/hub.sh"


class VirtualLab:
    """Machines with Kairos on them. `projects` are source folders to install: the core and its plugins.

    Each machine's cable delays each frame that it sends by `delay_ms` give or take `jitter_ms`, so that frames overtake
    each other, and loses `loss` percent of them. Raises LabError for what no cable can do.
    """

    def __init__(self, projects: Sequence[Path], *, delay_ms: int = 0, jitter_ms: int = 0, loss: int = 0) -> None:
        self.machines: list[VirtualMachine] = []
        self._projects = projects
        self._cable = Cable(delay_ms, jitter_ms, loss)
        self._hub: Namespaces | None = None

    async def __aenter__(self) -> VirtualLab:
        check_requirements()
        self.directory = Path(tempfile.mkdtemp(prefix="kairos-vm-"))
        try:
            # Process 1 of its own pid namespace: when it ends, however this process ended, the kernel ends every QEMU,
            # and with them the namespace, the bridge and the taps. It deletes the directory too.
            unshare = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--"]
            hub = ["sh", str(_HUB), str(self.directory), f"{PREFIX4}.254", f"{PREFIX6}fe"]
            self._hub = await Namespaces.make([*unshare, *hub], rootless=False)
            self._system = await asyncio.to_thread(find_system)
            self._bundle = await asyncio.to_thread(make_bundle, self._projects, self._system, self.directory)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def boot(self, *names: str, clocks: Sequence[float] = ()) -> list[VirtualMachine]:
        """Switch on machines of these names at the same time, and wait for all. Raises LabError.

        `clocks` says for each how many seconds its clock is off, none if left out.
        """
        offsets = [*clocks, *[0.0] * len(names)]
        made = [await self._add(name, offset) for name, offset in zip(names, offsets, strict=False)]
        async with asyncio.TaskGroup() as tasks:
            for machine in made:
                tasks.create_task(machine.start(self._on.enter("net", "pid")))
        return made

    @property
    def _on(self) -> Namespaces:
        if self._hub is None:
            raise LabError("the lab is not open: use it in an async with statement")
        return self._hub

    async def _add(self, name: str, clock: float) -> VirtualMachine:
        number = len(self.machines) + 1
        commands = f"tuntap add tap{number} mode tap\nlink set tap{number} master br0 up"
        await must_run([*self._on.enter("net"), "ip", "-batch", "-"], stdin=commands)
        link = f"lab.ipv4={PREFIX4}.{number}/24 lab.ipv6={PREFIX6}{number:x}/64 {self._cable.words()}"
        hardware = Hardware(number, clock, link, self._bundle)
        machine = VirtualMachine(name, hardware, self._system, self.directory / name)
        self.machines.append(machine)
        return machine

    async def _close(self) -> None:
        for machine in self.machines:
            await machine.stop()
        if self._hub is not None:
            await self._hub.close()
        shutil.rmtree(self.directory, ignore_errors=True)  # the hub has done it, if there was one
