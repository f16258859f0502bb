"""What makes up an installed service: files and links, and the agent that they start. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

MARK = "# Written by Kairos; changes are overwritten."
"""Begins each file that is ours; a file of another owner in its place is set aside, and comes back."""

_RECORD = "# Installed as: "

STATE = "/var/lib/kairos"
RUN = "/run/kairos"
ENVIRONMENT = "/etc/kairos/agent.env"

ENVIRONMENT_TEXT = """\
# Environment of the Kairos agent, one NAME="value" a line. Yours: written once, readable by root alone.
# A proxy for downloads, for example: HTTPS_PROXY="http://user:password@proxy.example:3128"
"""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the service. One that is `yours` is written once, and then the operator's; its mode stays ours."""

    path: str
    content: str
    mode: int = 0o644
    yours: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link of the service: with it the init system starts the service at each boot."""

    path: str
    target: str


Part = File | Link


@dataclass(frozen=True, slots=True)
class AgentService:
    """The agent that a service starts: its program, and what `kairos start` is told. All paths are absolute."""

    program: tuple[str, ...]
    configs: tuple[str, ...] = ()
    state: str = STATE
    api: str = ""

    def command(self) -> tuple[str, ...]:
        """Return the command line; what is as `kairos start` has it by itself is left out. It holds no secret."""
        configs = (f"--config={config}" for config in self.configs)
        state = (f"--state={self.state}",) if self.state != STATE else ()
        api = (f"--api={self.api}",) if self.api else ()
        return (*self.program, "start", *configs, *state, *api)

    def record(self) -> str:
        """Return the line by which the file of a service says what it was made from."""
        return _RECORD + json.dumps(asdict(self))


def read_record(text: str) -> AgentService | None:
    """Return the agent that the file of a service starts; None when it is not ours, or damaged."""
    for line in text.splitlines():
        if line.startswith(_RECORD):
            try:
                saved = json.loads(line.removeprefix(_RECORD))
                saved |= {name: tuple(map(str, saved[name])) for name in ("program", "configs")}
                return AgentService(**saved)
            except (ValueError, TypeError, KeyError):
                return None
    return None


def environment_file() -> File:
    """Return the file for what may be secret: of all files of the service, only this one can hold such."""
    return File(ENVIRONMENT, ENVIRONMENT_TEXT, 0o600, yours=True)
