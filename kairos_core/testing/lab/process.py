"""A program that runs on a machine of the lab."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from kairos_core.testing.lab.namespaces import LabError


class Process:
    """A running program, its log, and the way to signal it. Made by `Machine.start`."""

    def __init__(self, command: Sequence[str], log: Path, outer: asyncio.subprocess.Process) -> None:
        self.name = Path(command[0]).name
        self.log = log
        self._outer = outer  # nsenter, which forks: its only child is the program

    @classmethod
    async def spawn(cls, enter: Sequence[str], command: Sequence[str], log: Path, env: Mapping[str, str]) -> Process:
        """Start `command` behind the `nsenter` words of `enter`; what it says is appended to `log`."""
        with log.open("ab") as file:
            outer = await asyncio.create_subprocess_exec(
                *enter,
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=dict(env),
                start_new_session=True,
            )
        return cls(command, log, outer)

    @property
    def is_running(self) -> bool:
        return self._outer.returncode is None

    async def pid(self) -> int:
        """Return the program's process id as seen from outside the lab. Raises LabError when it has ended."""
        while self.is_running:
            if child := _child_of(self._outer.pid):
                return child
            await asyncio.sleep(0.005)
        raise LabError(f"{self.name} has ended ({self._outer.returncode}): {self.last_lines()}")

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal the program itself (not its children), wait for its end and return the exit code."""
        if self.is_running:
            with suppress(LabError, ProcessLookupError):
                os.kill(await self.pid(), number)
        return await self.wait()

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code (negative: killed by that signal). Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            return await self._outer.wait()

    def last_lines(self, count: int = 15) -> str:
        """Return the end of the log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-count:])


def _child_of(pid: int) -> int | None:
    # /proc/PID/task/PID/children would be simpler; not every kernel is built with it.
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            # The name in parentheses may hold anything, so fields are counted from its end. proc(5)
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                return int(entry.name)
    return None
