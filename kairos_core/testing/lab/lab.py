"""The lab: machines on one bridge, and the faults between them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from kairos_core.testing.lab.link import HUB_HOST, Link, ipv4_of, ipv6_of
from kairos_core.testing.lab.machine import Machine
from kairos_core.testing.lab.namespaces import LabError, Namespaces, check_requirements

_HUB = Path(__file__).with_name("hub.sh")
_PREFIX = "kairos-lab-"
_UNLOCKED_GRACE = 60.0
"""Seconds a lab's directory may be without its lock: the time between making the one and the other."""


class Lab:
    """Machines joined by a bridge, all in namespaces: nothing appears in the host's network.

    `rootless` puts everything into a user namespace (the default for all but root). `tunnel` refuses early
    where machines could not open /dev/net/tun. `programs` is a directory that comes first in every machine's
    PATH; after it come the scripts of this Python installation (`kairos`) and the PATH of the caller.
    """

    def __init__(self, machines: int = 0, *, rootless: bool | None = None, tunnel: bool = True) -> None:
        self.machines: list[Machine] = []
        self._wanted, self._tunnel = machines, tunnel
        self.rootless = os.geteuid() != 0 if rootless is None else rootless
        self._hub: Namespaces | None = None
        self._lock = -1

    async def __aenter__(self) -> Lab:
        check_requirements(tunnel=self._tunnel)
        self.sweep()
        self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self.programs = self.directory / "bin"
        self.programs.mkdir()
        try:
            self._lock = _lock(self.directory)
            self._hub = await self._make_hub()
            await asyncio.gather(*[self.add(f"node-{number + 1}") for number in range(self._wanted)])
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def add(self, name: str) -> Machine:
        """Switch on one more machine and return it. Raises LabError."""
        if self._hub is None:
            raise LabError("the lab is not open: use it in an async with statement")
        host = len(self.machines) + 1
        if host >= HUB_HOST:
            raise LabError(f"the lab has room for {HUB_HOST - 1} machines")
        machine = Machine(name, Link(host, self._hub), self.directory / name, self._environment())
        self.machines.append(machine)
        await machine.power_on()
        return machine

    async def partition(self, one: Iterable[Machine], other: Iterable[Machine]) -> None:
        """Cut all traffic between two groups of machines, both ways; replaces an earlier partition of them."""
        one, other = list(one), list(other)
        for group, hidden in ((one, other), (other, one)):
            hosts = [machine.link.host for machine in hidden]
            await asyncio.gather(*[machine.link.block(hosts) for machine in group])

    async def heal(self) -> None:
        """End every partition."""
        await asyncio.gather(*[machine.link.block(()) for machine in self.machines])

    @staticmethod
    def sweep() -> int:
        """Delete the directories of labs that ended without their last step; returns how many.

        Their processes and networks need no sweeping: the kernel ended them with the lab.
        """
        return sum(_sweep(path) for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))

    async def _make_hub(self) -> Namespaces:
        user = ["--user", "--map-root-user"] if self.rootless else []
        unshare = ["unshare", *user, "--net", "--pid", "--fork", "--kill-child"]
        script = ["sh", str(_HUB), str(self.directory), ipv4_of(HUB_HOST), ipv6_of(HUB_HOST)]
        return await Namespaces.make([*unshare, "--", *script], rootless=self.rootless)

    async def _close(self) -> None:
        for machine in self.machines:
            await machine.power_off()
        if self._hub is not None:
            await self._hub.close()
        shutil.rmtree(self.directory, ignore_errors=True)  # the hub has done it, if there was one
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _environment(self) -> dict[str, str]:
        """Return the whole environment of a machine: nothing of the caller's settings leaks in."""
        path = os.pathsep.join((str(self.programs), sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
        # /tmp is the host's: what a killed program left there would outlive the lab.
        return {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "TMPDIR": "/run/tmp"}


def _lock(directory: Path) -> int:
    # Locked before it gets its name, so that a sweep never sees it unlocked. The kernel frees it when we die.
    unnamed = directory / "lock.new"
    descriptor = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    unnamed.rename(directory / "lock")
    return descriptor


def _sweep(directory: Path) -> bool:
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        with suppress(OSError):
            if time.time() - directory.stat().st_mtime > _UNLOCKED_GRACE:
                shutil.rmtree(directory, ignore_errors=True)
                return True
        return False
    except OSError:  # another user's
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
        return True
    except OSError:  # alive
        return False
    finally:
        os.close(descriptor)
