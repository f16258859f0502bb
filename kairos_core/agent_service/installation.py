"""Installs the agent as a service of a machine, or of an image that is being built, and removes it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kairos_core.agent_service.disk import Disk
from kairos_core.agent_service.init import Init
from kairos_core.agent_service.parts import AgentService, File, Part, read_record
from kairos_core.errors import ServiceError

OWED = "/run/kairos.restart"
"""While this is there, the agent that runs was started from older files than those on disk. It holds over an end in the
middle of an installation, and not over a reboot, which starts the agent from what is on disk."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an installation did: the paths it wrote, and whether the agent was started, or started afresh."""

    written: tuple[str, ...] = ()
    started: str = ""  # "started", "restarted", or nothing
    owed: bool = False  # the agent runs from older files until it is started afresh


class Installation:
    """The service of the agent under a root. Where the init system does not run (`is_live`), only files are changed."""

    def __init__(self, init: Init, root: Path = Path("/"), *, is_live: bool) -> None:
        self._init, self._disk, self._is_live = init, Disk(root), is_live

    def installed(self) -> AgentService | None:
        """Return the agent that the installed service starts; None when none is installed. Raises ServiceError."""
        return read_record(self._disk.read(self._init.definition))

    def install(self, service: AgentService, *, now: bool) -> Outcome:
        """Make the service as it should be, and with `now` also the agent that runs. Doing it twice changes nothing.

        Raises ServiceError.
        """
        stale = self._disk.differing(self._init.parts(service))
        if any(map(_defines, stale)) and self._is_live and self._init.is_running():
            self._owe()
        for part in stale:
            self._disk.write(part)
        if stale and self._is_live:
            self._init.reload()
        started = self._start() if now and self._is_live else ""
        return Outcome(tuple(str(self._disk.path(part.path)) for part in stale), started, self._is_owed())

    def uninstall(self, *, purge: bool) -> list[str]:
        """Stop the agent and remove its service; return what was done, a phrase each. Raises ServiceError.

        Doing it twice changes nothing. With `purge` also what the operator wrote into files of ours. A service by
        another hand is left alone, but for `purge` it is stopped.
        """
        done = self.stop() if purge or self.installed() else []
        for part in reversed(self._init.parts(self.installed() or AgentService(("kairos",)))):
            done += self._disk.remove(part, also_yours=purge)
        if done and self._is_live:
            self._init.reload()
        return done

    def stop(self) -> list[str]:
        """Stop the agent; return what was done. Raises ServiceError."""
        if not self._is_live or not self._init.is_running():
            return []
        self._init.stop()
        self._disk.path(OWED).unlink(missing_ok=True)
        return ["stopped the agent"]

    def _start(self) -> str:
        is_owed, was_running = self._is_owed(), self._init.is_running()
        self._init.start(afresh=is_owed)
        self._disk.path(OWED).unlink(missing_ok=True)
        return "restarted" if is_owed else "" if was_running else "started"

    def _owe(self) -> None:
        """Note that a restart is owed, before the files change: an end in between must not lose it."""
        try:
            self._disk.path(OWED).touch(mode=0o600)
        except OSError as error:
            raise ServiceError(f"cannot write {OWED}: {error.strerror}. Run as root.") from None

    def _is_owed(self) -> bool:
        return self._disk.path(OWED).exists()


def _defines(part: Part) -> bool:
    """Say whether a part decides how the agent runs: links only say whether it starts at boot."""
    return isinstance(part, File) and not part.yours
