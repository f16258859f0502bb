"""A supervised service in an operator's hands: started, stopped, and its log read without secrets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Collection, Sequence

from kairos_core.errors import EngineError
from kairos_core.interfaces import EngineService
from kairos_core.service.disk import Disk
from kairos_core.service.supervisor import Supervisor

MAX_LINE = 1 << 20
"""Bytes in one line of a log. Kubernetes' own are far shorter; raising it lets a broken log take more memory."""

_PLAIN = frozenset(("NO_PROXY", "no_proxy"))

Blot = Callable[[str, Sequence[str]], str]
"""Takes secrets out of a line: those given, and what looks like one to whoever knows the program."""


class SupervisedService(EngineService):
    """The service that an engine has made, known by the engine's record on the disk.

    `plain` names variables of its environment that may be seen; any other could hold a secret, and is blotted out.
    """

    def __init__(self, supervisor: Supervisor, disk: Disk, blot: Blot, plain: Collection[str] = ()) -> None:
        """Raises EngineError when the record is damaged."""
        self.name = disk.state().service
        self._supervisor, self._disk, self._blot = supervisor, disk, blot
        self._plain = _PLAIN.union(plain)

    async def is_running(self) -> bool:
        return await self._supervisor.is_running(self.name)

    async def start(self) -> None:
        await self._supervisor.start(self.name)

    async def stop(self) -> None:
        await self._supervisor.stop(self.name)

    async def log(self, lines: int, *, follow: bool = False) -> AsyncGenerator[str, None]:
        secrets = await asyncio.to_thread(self._secrets)
        argv = self._supervisor.log_command(self.name, lines, follow=follow)
        async with contextlib.aclosing(_lines(argv)) as printed:
            async for line in printed:
                yield self._blot(line, secrets)

    def _secrets(self) -> list[str]:
        """Return what the program was given in its environment: it may say it in its log."""
        return [value for name, value in self._disk.environment().items() if name not in self._plain]


async def _lines(argv: tuple[str, ...]) -> AsyncGenerator[str, None]:
    """Yield what a program prints, line by line; end it when the caller has enough. Raises EngineError."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdout=pipe, stderr=pipe, limit=MAX_LINE)
    except OSError as error:
        raise EngineError(f"cannot run '{argv[0]}': {error.strerror}. Is it installed?") from None
    assert process.stdout is not None
    assert process.stderr is not None
    saying = asyncio.create_task(process.stderr.read())
    try:
        while line := await process.stdout.readline():
            yield line.decode(errors="replace").rstrip("\n")
        if await process.wait() != 0:
            said = (await saying).decode(errors="replace").strip()
            raise EngineError(f"the log cannot be read: {said or 'it said nothing'}. Run as root.")
    except ValueError:
        raise EngineError(f"the log has a line of more than {MAX_LINE} bytes. Read it with: {' '.join(argv)}") from None
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()  # until its pipes are closed
