"""What k0s' log says went wrong. Pure: text in, one sentence out, secrets blotted out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_START = re.compile(r"^--- Kairos starts |^Started .*run by Kairos")
# logrus' text format, and the last words of spf13/cobra
_LINE = re.compile(r'level=(fatal|error|warning|info) msg="((?:[^"\\]|\\.)*)"')
_LAST_WORDS = re.compile(r"^Error: (.*)$")

# What no waiting mends, and what to do. Wording of k0s' source (cmd/controller, pkg/token, pkg/component/worker).
_HOPELESS = {
    "401 Unauthorized": "the join token is wrong: it is that of another cluster, or it was invalidated",
    "signing request: Unauthorized": "the join token is wrong: it is that of another cluster, or it was invalidated",
    "certificate signed by unknown authority": "the join token belongs to another cluster than this server",
    "wrong token type": "the join token is one for the other role (controller or worker)",
    "failed to decode": "the join token is damaged",
    "unknown flag": "k0s does not know one of the operator's arguments",
    "invalid node config": "k0s.yaml does not hold: look at k0s.config",
    "pre-flight check": "this machine lacks what k0s needs: run k0s sysinfo",
}
_TOKEN = re.compile(r"\bH4sI[A-Za-z0-9+/=]{16,}|\b[a-z0-9]{6}\.[a-z0-9]{16}\b")
_LOGIN = re.compile(r"://[^\s/@:]*:[^\s/@]*@")


@dataclass(frozen=True, slots=True)
class Complaint:
    """The last thing that k0s complained of; `is_hopeless` when waiting will not mend it."""

    message: str
    is_hopeless: bool


def last_complaint(log: str, secrets: Iterable[str] = ()) -> Complaint | None:
    """Return what the log complains of since the last start of k0s; None when all is well.

    `secrets` are blotted out of the message, and so is whatever looks like a join token or a login.
    """
    lines = log.splitlines()
    starts = [number for number, line in enumerate(lines) if _START.search(line)]
    found: tuple[int, str] | None = None
    for line in lines[starts[-1] if starts else 0 :]:
        level, message = _parsed(line)
        # A last word is the last word; of errors, and of lines that are hopeless at any level, the latest counts.
        rank = {"fatal": 2, "error": 1}.get(level, 1 if _advice(message) else 0)
        if rank and (found is None or rank >= found[0]):
            found = rank, message
    return _complaint(found[1], secrets) if found else None


def _parsed(line: str) -> tuple[str, str]:
    match = _LINE.search(line)
    if match:
        return match[1], match[2].replace('\\"', '"').replace("\\\\", "\\")
    match = _LAST_WORDS.match(line)
    return ("fatal", match[1]) if match else ("", line)


def _advice(message: str) -> str:
    return next((advice for words, advice in _HOPELESS.items() if words in message), "")


def blot(text: str, secrets: Iterable[str]) -> str:
    """Return a text without these secrets, and without what looks like a join token or a login."""
    for secret in secrets:
        if len(secret) >= 6:
            text = text.replace(secret, "…")
    return _LOGIN.sub("://…@", _TOKEN.sub("…", text))


def _complaint(message: str, secrets: Iterable[str]) -> Complaint:
    message = blot(message, secrets)[:500]
    advice = _advice(message)
    return Complaint(f"{advice} (k0s says: {message})" if advice else f"k0s says: {message}", bool(advice))
