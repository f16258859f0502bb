"""What k3s' log says went wrong. Pure: text in, one sentence out, secrets blotted out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_START = re.compile(r"--- Kairos starts |msg=\"Starting k3s ")
_LINE = re.compile(r'level=(fatal|error|warning|info) msg="((?:[^"\\]|\\.)*)"')
# Kubernetes' own log (k8s.io/klog): severity and date, time, thread, place
_KLOG = re.compile(r"^([EF])\d{4} [\d:.]+ +\d+ [^]]+\] (.*)$")
_UP = re.compile(r"k3s (agent )?is up and running")

# What no waiting mends, and what to do. Wording of k3s v1.19 to v1.34 (pkg/clientaccess, pkg/agent/config).
_HOPELESS = {
    "401 Unauthorized": "the join token is wrong: it is that of another cluster, or an old one",
    "token CA hash does not match": "the join token belongs to another cluster than this server",
    "Node password rejected": (
        "another machine has joined under this node's name: delete that node from the cluster, "
        "or give this machine another host name"
    ),
    "different token": "the cluster's data was written with another token than the one given now",
    "etcd disabled": "the first master was not started with --cluster-init, so no second one can join it",
}
_TOKEN = re.compile(r"K10[0-9a-f]{8,}::\S+")
_LOGIN = re.compile(r"://[^\s/@:]*:[^\s/@]*@")


@dataclass(frozen=True, slots=True)
class Complaint:
    """The last thing that k3s complained of; `is_hopeless` when waiting will not mend it."""

    message: str
    is_hopeless: bool


def last_complaint(log: str, secrets: Iterable[str] = ()) -> Complaint | None:
    """Return what the log complains of since the last start of k3s; None when all is well.

    `secrets` are blotted out of the message, and so is whatever looks like a join token or a login.
    """
    lines = log.splitlines()
    starts = [number for number, line in enumerate(lines) if _START.search(line)]
    found: tuple[int, str] | None = None
    for line in lines[starts[-1] if starts else 0 :]:
        level, message = _parsed(line)
        if _UP.search(message):
            found = None
        # A fatal line is the last word; of errors, and of lines that are hopeless at any level, the latest
        # counts.
        rank = {"fatal": 2, "error": 1}.get(level, 1 if _advice(message) else 0)
        if rank and (found is None or rank >= found[0]):
            found = rank, message
    return _complaint(found[1], secrets) if found else None


def _parsed(line: str) -> tuple[str, str]:
    match = _LINE.search(line)
    if match:
        return match[1], match[2].replace('\\"', '"').replace("\\\\", "\\")
    match = _KLOG.match(line)
    if match:
        return "fatal" if match[1] == "F" else "error", match[2]
    return "", line


def _advice(message: str) -> str:
    return next((advice for words, advice in _HOPELESS.items() if words in message), "")


def blot(text: str, secrets: Iterable[str]) -> str:
    """Return a text without these secrets, and without what looks like a join token or a login."""
    for secret in secrets:
        if len(secret) >= 6:
            text = text.replace(secret, "…")
    return _LOGIN.sub("://…@", _TOKEN.sub("K10…", text))


def _complaint(message: str, secrets: Iterable[str]) -> Complaint:
    message = blot(message, secrets)[:500]
    advice = _advice(message)
    return Complaint(f"{advice} (k3s says: {message})" if advice else f"k3s says: {message}", bool(advice))
