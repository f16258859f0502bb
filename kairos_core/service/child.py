"""A service as our own child, where there is no init system: containers, labs.

It runs in its own session and outlives us: after a kill -9 of the agent, the next one finds it by its pid
file and watches it again instead of starting a second. A shell writes the pid file before it becomes the
program, so there is no moment at which that runs and the file does not say so. A crash leaves the file, a stop
on purpose removes it. It holds /proc/PID/stat, whose start time tells this process from another that got the
same number later. Source: proc(5), pidfd_open(2).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from kairos_core.errors import EngineError
from kairos_core.service.definition import File, Home, Service
from kairos_core.service.environment import format_environment, parse_environment
from kairos_core.service.journal import START_MARK
from kairos_core.service.supervisor import Supervisor, read_tail, tail_command

BACK_OFF = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds to wait before start number 2, 3, …; the last holds for all further ones.

Longer waits cost time after a fault that is mended, shorter ones a busy machine: Kubernetes starts with
seconds of CPU.
"""

STEADY = 60.0
"""Seconds after which a start counts as good, and waiting begins anew with the shortest."""

STOP_PATIENCE = 30.0
"""Seconds that a service has to end after SIGTERM before it is killed."""

LOG_LIMIT = 32 << 20
"""Bytes of log after which it is moved to `.1`; so a node holds twice this at most."""

_log = logging.getLogger(__name__)
_ENTRANCE = 'read -r line < /proc/$$/stat && printf "%s\\n" "$line" > "$0" && exec "$@"'
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_PASSED_ON = ("PATH", "HOME", "LANG", *_PROXIES, *map(str.lower, _PROXIES))


class Child(Supervisor):
    """Processes: their pid is in /run/kairos, their log in /var/log, their command in the engine's state directory."""

    def __init__(self, home: Home, root: Path = Path("/"), back_off: Sequence[float] = BACK_OFF) -> None:
        self._home, self._root, self._back_off = home, root, tuple(back_off)
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._children: dict[str, int] = {}  # spawned by us: known before the pid file is written

    def files(self, service: Service, program: str) -> tuple[File, ...]:
        command = json.dumps([program, *service.arguments], indent=1) + "\n"
        return (
            File(f"{self._home.state}/{service.name}.json", command, 0o600),
            File(f"{self._home.settings}/{service.name}.env", format_environment(service.environment), 0o600),
        )

    async def start(self, service: str) -> None:
        watcher = self._watchers.get(service)
        if watcher is None or watcher.done():
            pid = self._pid(service) or self._spawn(service)
            self._watchers[service] = asyncio.create_task(self._watch(service, pid))

    async def restart(self, service: str) -> None:
        await self.stop(service)
        await self.start(service)

    async def stop(self, service: str) -> None:
        watcher = self._watchers.pop(service, None)
        if watcher is not None:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        pid = self._pid(service)
        if pid is not None:
            await _end(pid)
        self._children.pop(service, None)
        self._pid_file(service).unlink(missing_ok=True)

    async def is_running(self, service: str) -> bool:
        return self._pid(service) is not None

    async def log(self, service: str) -> str:
        return await asyncio.to_thread(read_tail, self._log_file(service))

    def log_command(self, service: str, lines: int, *, follow: bool) -> tuple[str, ...]:
        return tail_command(self._log_file(service), lines, follow=follow)

    async def _watch(self, service: str, pid: int) -> None:
        """Start the service again whenever it crashes, later each time unless it had run for a while."""
        clock = asyncio.get_running_loop().time
        failures = 0
        while True:
            started = clock()
            await self._ended(service, pid)
            self._children.pop(service, None)
            failures = 0 if clock() - started >= STEADY else failures
            await asyncio.sleep(self._back_off[min(failures, len(self._back_off) - 1)])
            failures += 1
            if not self._pid_file(service).exists():
                return  # stopped on purpose, through another supervisor of this machine
            try:
                pid = self._pid(service) or self._spawn(service)
            except EngineError as error:
                _log.error("%s", error)

    async def _ended(self, service: str, pid: int) -> None:
        """Wait for the end of a process, and keep its log small meanwhile."""
        while not await _ends(pid, timeout=60.0):
            await asyncio.to_thread(_shorten, self._log_file(service))

    def _spawn(self, service: str) -> int:
        """Start the process from the files of the service; return its number. Raises EngineError."""
        log, pid_file = self._log_file(service), self._pid_file(service)
        try:
            for file in (log, pid_file):
                file.parent.mkdir(parents=True, exist_ok=True)
            _shorten(log)
            pid_file.touch(mode=0o600)
            argv = json.loads(self._place(f"{self._home.state}/{service}.json").read_text())
            given = parse_environment(self._place(f"{self._home.settings}/{service}.env").read_text())
            kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(output, f"{START_MARK}{service} ---\n".encode())
                self._children[service] = os.posix_spawn(
                    "/bin/sh",
                    ["sh", "-c", _ENTRANCE, str(pid_file), *argv],
                    kept | given,
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, output, 1),
                        (os.POSIX_SPAWN_DUP2, output, 2),
                    ],
                    setsid=True,
                    setsigmask=[],
                    setsigdef=[signal.SIGPIPE, signal.SIGINT],
                )
            finally:
                os.close(output)
            return self._children[service]
        except OSError as error:
            raise EngineError(f"cannot start {service}: {error.strerror}: {error.filename}") from None

    def _pid(self, service: str) -> int | None:
        """Return the number of the service's process if it runs."""
        child = self._children.get(service)
        if child is not None:  # not yet reaped, so the number is still its own
            return child if _identity(_text(Path(f"/proc/{child}/stat"))) else None
        saved = _identity(_text(self._pid_file(service)))
        current = _identity(_text(Path(f"/proc/{saved[0]}/stat"))) if saved else None
        return saved[0] if saved and current == saved else None

    def _pid_file(self, service: str) -> Path:
        return self._place(f"/run/kairos/{service}.pid")

    def _log_file(self, service: str) -> Path:
        return self._place(f"/var/log/{service}.log")

    def _place(self, path: str) -> Path:
        return self._root / path.lstrip("/")


def _identity(stat: str) -> tuple[int, int] | None:
    """Return (pid, start time) of a line of /proc/PID/stat; None for a process that has ended."""
    head, _, tail = stat.rpartition(")")  # the name before it may hold blanks and brackets
    fields = tail.split()
    pid = head.partition(" ")[0]
    if len(fields) < 20 or not pid.isdecimal() or not fields[19].isdecimal() or fields[0] in "ZX":
        return None
    return int(pid), int(fields[19])


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


async def _ends(pid: int, timeout: float) -> bool:
    """Wait for the end of a process, our child or not; False when it still runs after `timeout` seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(timeout):
            await ended.wait()
    except TimeoutError:
        return bool(select.select([descriptor], [], [], 0)[0])
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    _reap(pid)
    return True


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # an adopted process is init's child, which reaps it
        os.waitpid(pid, os.WNOHANG)


async def _end(pid: int) -> None:
    """Ask a process to end, then make it. Only that one: its containers go on, as with KillMode=process."""
    for number, patience in ((signal.SIGTERM, STOP_PATIENCE), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if await _ends(pid, patience):
            return
    raise EngineError(f"process {pid} does not end even when killed: it waits in the kernel. Reboot.")


def _shorten(log: Path) -> None:
    """Move a long log to `.1` by copying, since the service holds the file open."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)
