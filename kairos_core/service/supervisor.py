"""Who keeps a service running: systemd, OpenRC, or this process where there is no init system."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path

from kairos_core.errors import EngineError
from kairos_core.service.definition import File, Service

LOG_TAIL = 64 * 1024
"""Bytes of log read to find out what went wrong; more finds older causes and costs time for each status."""


class Supervisor(ABC):
    """Starts a service, keeps it running over crashes and reboots, and stops it."""

    @abstractmethod
    def files(self, service: Service, program: str) -> tuple[File, ...]:
        """Return the files that define the service. Pure: equal services give equal files."""

    @abstractmethod
    async def start(self, service: str) -> None:
        """See to it that the service runs, now and at each boot; spare a running one. Raises EngineError."""

    @abstractmethod
    async def restart(self, service: str) -> None:
        """Like `start`, but a running service is started afresh, from its files as they are now."""

    @abstractmethod
    async def stop(self, service: str) -> None:
        """Stop the service and start it no more; one that does not exist is fine. Raises EngineError."""

    @abstractmethod
    async def is_running(self, service: str) -> bool:
        """Say whether its process runs at this moment; one that waits to be started again does not."""

    @abstractmethod
    async def log(self, service: str) -> str:
        """Return the end of its log."""

    @abstractmethod
    def log_command(self, service: str, lines: int, *, follow: bool) -> tuple[str, ...]:
        """Return the command that prints the last lines of its log, and with `follow` each new one. Pure."""


async def run_program(*argv: str, accept: tuple[int, ...] = (0,), timeout: float = 60.0) -> tuple[int, str]:
    """Run a program to its end; return its exit code and output. Raises EngineError."""
    code, output, errors = await complete_program(*argv, timeout=timeout)
    if code not in accept:
        said = errors.strip() or output.strip()
        raise EngineError(f"'{' '.join(argv)}' failed with exit code {code}: {said or 'it said nothing'}")
    return code, output


async def complete_program(*argv: str, timeout: float) -> tuple[int, str, str]:
    """Run a program to its end; return its exit code, and what it said on both outputs. Raises EngineError.

    It is killed when it takes too long, and when nobody waits for it any more.
    """
    command = " ".join(argv)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise EngineError(f"cannot run '{command}': {error.strerror}. Is {argv[0]} installed?") from None
    try:
        async with asyncio.timeout(timeout):
            output, errors = await process.communicate()
    except TimeoutError:
        raise EngineError(f"'{command}' did not end within {timeout:.0f} s, and was killed.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace")


def tail_command(path: Path, lines: int, *, follow: bool) -> tuple[str, ...]:
    """Return the command that prints the last lines of a file; `-F` goes on when the file is made anew or shortened."""
    return ("tail", "-n", str(lines), *(["-F"] if follow else []), str(path))


def read_tail(path: Path, limit: int = LOG_TAIL) -> str:
    """Return the last bytes of a file as text, from the start of a line; nothing when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return text if size <= limit else text.partition("\n")[2]
