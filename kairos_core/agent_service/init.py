"""The init system of this machine, as far as the agent's service needs it."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from kairos_core.agent_service.agent_script import LOG, SCRIPT_FILE, SERVICE, openrc_parts
from kairos_core.agent_service.agent_unit import UNIT, UNIT_FILE, systemd_parts
from kairos_core.agent_service.parts import AgentService, Part
from kairos_core.errors import ServiceError

PATIENCE = 120.0
"""Seconds that a start or stop may take: systemd gives up the one after 90 and kills in the other after 30."""

NONE = (
    "no init system {verb} {where}: neither systemd nor OpenRC, so nothing would start the agent. In a container, make "
    "`kairos start` its program; elsewhere, let what starts your other services run `kairos start`."
)


class Init(ABC):
    """An init system: which parts make the agent its service, and how it is told to start and stop that."""

    name: str
    definition: str  # the file that defines the service, and records what it was made from
    log: str = ""  # the file to which the agent's log goes
    log_advice: str  # where to look when the agent does not come up

    @abstractmethod
    def parts(self, service: AgentService) -> tuple[Part, ...]:
        """Return the files and links of the service. Pure."""

    @abstractmethod
    def reload(self) -> None:
        """Let it read changed files. Raises ServiceError."""

    @abstractmethod
    def is_running(self) -> bool:
        """Say whether the agent runs at this moment, or is about to."""

    @abstractmethod
    def start(self, *, afresh: bool) -> None:
        """Start the agent, and with `afresh` also one that runs; return when it is up. Raises ServiceError."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the agent; nothing happens when none runs. Raises ServiceError."""


class SystemdInit(Init):
    """systemd, by systemctl."""

    name, definition = "systemd", UNIT_FILE
    log_advice = f"journalctl -u {UNIT} -n 50"

    def parts(self, service: AgentService) -> tuple[Part, ...]:
        return systemd_parts(service)

    def reload(self) -> None:
        _run("systemctl", "daemon-reload")

    def is_running(self) -> bool:
        shown = _run("systemctl", "show", "-p", "ActiveState", "--value", UNIT)
        return shown.stdout.strip() in ("active", "activating", "reloading")

    def start(self, *, afresh: bool) -> None:
        _run("systemctl", "restart" if afresh else "start", UNIT, advice=self.log_advice)

    def stop(self) -> None:
        # 5: no such unit. Source: systemctl(1), exit status.
        _run("systemctl", "stop", UNIT, accept=(0, 5))
        _run("systemctl", "reset-failed", UNIT, accept=(0, 1))


class OpenRcInit(Init):
    """OpenRC, by rc-service."""

    name, definition, log = "OpenRC", SCRIPT_FILE, LOG
    log_advice = f"tail -n 50 {LOG}"

    def parts(self, service: AgentService) -> tuple[Part, ...]:
        return openrc_parts(service)

    def reload(self) -> None:
        """Do nothing: OpenRC looks at the times of its scripts by itself."""

    def is_running(self) -> bool:
        # 1: no such service, 3: stopped. All else is on its way up or down, or is started again after a crash. Source:
        # supervise_status in OpenRC's supervise-daemon.sh.
        return _run("rc-service", SERVICE, "status", accept=tuple(range(256))).returncode not in (1, 3)

    def start(self, *, afresh: bool) -> None:
        _run("rc-service", SERVICE, "restart" if afresh else "start", advice=self.log_advice)

    def stop(self) -> None:
        _run("rc-service", "--ifexists", SERVICE, "stop")


_RUNNING: dict[str, type[Init]] = {"run/systemd/system": SystemdInit, "run/openrc": OpenRcInit}
"""What an init system that runs keeps. Source: sd_booted(3); OpenRC's rc-service."""

_INSTALLED: dict[str, type[Init]] = {
    "usr/lib/systemd/systemd": SystemdInit,
    "lib/systemd/systemd": SystemdInit,
    "sbin/openrc-run": OpenRcInit,
    "usr/sbin/openrc-run": OpenRcInit,
}


def running_init(root: Path = Path("/")) -> Init | None:
    """Return the init system that runs this machine, None when there is none, as in most containers."""
    return _first(root, _RUNNING)


def installed_init(root: Path = Path("/")) -> Init | None:
    """Return the init system that an image is going to run."""
    return _first(root, _INSTALLED)


def find_init(root: Path, *, must_run: bool) -> Init:
    """Return the init system of a machine; of an image (`must_run` False) also one that does not run yet.

    Raises ServiceError when there is none.
    """
    found = running_init(root) or (None if must_run else installed_init(root))
    if found is None:
        where = "this machine" if root == Path("/") else str(root)
        raise ServiceError(NONE.format(verb="runs" if must_run else "is installed on", where=where))
    return found


def _first(root: Path, places: dict[str, type[Init]]) -> Init | None:
    return next((kind() for place, kind in places.items() if (root / place).exists()), None)


def _run(*argv: str, accept: tuple[int, ...] = (0,), advice: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Raises ServiceError unless it ends with an accepted code."""
    command = " ".join(argv)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=PATIENCE)
    except OSError as error:
        raise ServiceError(f"cannot run '{command}': {error.strerror}. Is {argv[0]} installed?") from None
    except subprocess.TimeoutExpired:
        raise ServiceError(
            f"'{command}' did not end within {PATIENCE:.0f} s, and was killed. Try it by hand."
        ) from None
    if done.returncode not in accept:
        said = " ".join((done.stderr or done.stdout).split()) or "it said nothing"
        see = f" See: {advice}" if advice else ""
        raise ServiceError(f"'{command}' failed with exit code {done.returncode}: {said}{see}")
    return done
