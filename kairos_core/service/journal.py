"""What a service's log says went wrong. Pure: text in, one sentence out, secrets blotted out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from kairos_core.model import EngineState, EngineStatus

START_MARK = "--- Kairos starts "
"""What a supervisor without an init system writes into the log before it starts a program."""

MAX_MESSAGE = 500
"""Characters of a message that are shown: a status is one line, and travels to every node."""

SHORTEST = 6
"""Characters of a secret that is looked for; shorter ones would blot out innocent words."""

# The text format of logrus, in which distributions of Kubernetes write their own part of the log.
_LOGRUS = re.compile(r'level=(fatal|error|warning|info) msg="((?:[^"\\]|\\.)*)"')
_LOGIN = re.compile(r"://[^\s/@:]*:[^\s/@]*@")
_RANKS = {"fatal": 2, "error": 1}


@dataclass(frozen=True, slots=True)
class Complaint:
    """The last thing that a program complained of; `is_hopeless` when waiting will not mend it."""

    message: str
    is_hopeless: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """How the log of one program is to be read: its patterns, and advice for what it says.

    `program` is its name in messages. What stands before the last line that has our own mark, or in which `start` is
    found, is of an earlier process, and over. So is all before a message in which `is_up` is found, where that is set.

    Lines are read in logrus' format; `lines` has further ones: by their level (`fatal` or `error`), a pattern for the
    whole line whose first group is the message. `hopeless` has words that stand in messages, of any level, about what
    no waiting mends, each with what to tell the operator. `join_token` finds what is to be blotted out though nobody
    gave it to us.
    """

    program: str
    start: re.Pattern[str]
    join_token: re.Pattern[str]
    hopeless: Mapping[str, str]
    lines: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    is_up: re.Pattern[str] | None = None

    def last_complaint(self, log: str, secrets: Iterable[str] = ()) -> Complaint | None:
        """Return what the log complains of since the last start; None when all is well.

        `secrets` are blotted out of the message, and so is whatever looks like a join token or a login.
        """
        lines = log.splitlines()
        starts = [number for number, line in enumerate(lines) if START_MARK in line or self.start.search(line)]
        found: tuple[int, str] | None = None
        for line in lines[starts[-1] if starts else 0 :]:
            level, message = self._parsed(line)
            if self.is_up is not None and self.is_up.search(message):
                found = None
            # A fatal line is the last word; of errors, and of lines that are hopeless at any level, the latest counts.
            rank = _RANKS.get(level, 1 if self._advice(message) else 0)
            if rank and (found is None or rank >= found[0]):
                found = rank, message
        return self._complaint(found[1], secrets) if found else None

    def explained(self, status: EngineStatus, log: str, secrets: Iterable[str] = ()) -> EngineStatus:
        """Return a status with what the log complains of, if anything; what no waiting mends makes it a failure."""
        complaint = self.last_complaint(log, secrets)
        if complaint is None:
            return status
        state = EngineState.FAILED if complaint.is_hopeless else status.state
        return replace(status, state=state, message=f"{status.message}; {complaint.message}")

    def blotted(self, text: str, secrets: Iterable[str]) -> str:
        """Return a text without these secrets, and without what looks like a join token or a login."""
        for secret in secrets:
            if len(secret) >= SHORTEST:
                text = text.replace(secret, "…")
        return _LOGIN.sub("://…@", self.join_token.sub("…", text))

    def _parsed(self, line: str) -> tuple[str, str]:
        """Return level and message of a line; of one in no known format, nothing and the whole line."""
        match = _LOGRUS.search(line)
        if match:
            return match[1], match[2].replace('\\"', '"').replace("\\\\", "\\")
        for level, pattern in self.lines.items():
            if match := pattern.match(line):
                return level, match[1]
        return "", line

    def _advice(self, message: str) -> str:
        return next((advice for words, advice in self.hopeless.items() if words in message), "")

    def _complaint(self, message: str, secrets: Iterable[str]) -> Complaint:
        message = self.blotted(message, secrets)[:MAX_MESSAGE]
        advice, says = self._advice(message), f"{self.program} says: {message}"
        return Complaint(f"{advice} ({says})" if advice else says, bool(advice))
