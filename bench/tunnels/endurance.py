"""What a soak has to show, from what was noted in it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

GROWTH = 0.05
"""By how much resident memory may grow from the first to the last part of what is measured."""
STALL = 1.0
"""Seconds for which nothing may come."""
PART = 0.1
"""The share of all readings that is the first part, and the last."""
REKEY, LATE = 120.0, 5.0
"""Seconds after which a session in use is renewed (WireGuard's REKEY_AFTER_TIME), and until another try has done it
where the first was lost (REKEY_TIMEOUT)."""
SPARE = 1.25
"""So many handshakes for each renewal at most: one is enough, but for those that cross or whose answer is lost."""


@dataclass(frozen=True, slots=True)
class Noted:
    """What a soak has noted. `rss` holds readings in bytes by process, after warming up; silences are (unix time,
    seconds); `answers` is how many handshakes were answered on the wire."""

    rss: Mapping[str, Sequence[int]]
    udp: Sequence[tuple[float, float]]
    tcp: Sequence[tuple[float, float]]
    answers: int
    roamings: int
    broken: str


def growth(readings: Sequence[int]) -> float:
    """Return by which share the last part of the readings is above the first."""
    part = max(1, int(len(readings) * PART))
    return median(readings[-part:]) / median(readings[:part]) - 1


def report(noted: Noted, seconds: float) -> dict[str, Any]:
    """Return the figures of a soak of that length, and under `bounds` what is met."""
    least, most = int(seconds / (REKEY + LATE)), 1 + int(SPARE * seconds / REKEY)
    grown = {name: growth(readings) for name, readings in noted.rss.items()}
    longest = {kind: max((seconds for _, seconds in found), default=0.0) for kind, found in _silences(noted).items()}
    bounds = {
        f"RSS of each process grows by at most {GROWTH:.0%}": max(grown.values()) <= GROWTH,
        f"no echo is missing for more than {STALL:g} s": longest["udp"] <= STALL,
        f"no stream stands for more than {STALL:g} s": longest["tcp"] <= STALL,
        "the stream was never broken": not noted.broken,
        f"{least} to {most} handshakes": least <= noted.answers <= most,
    }
    return {
        "rss_mb": {name: round(readings[-1] / 1e6, 2) for name, readings in noted.rss.items()},
        "rss_growth": {name: round(share, 4) for name, share in grown.items()},
        "longest_silence": longest,
        "silences": {kind: list(found) for kind, found in _silences(noted).items()},
        "handshakes": noted.answers,
        "roamings": noted.roamings,
        "broken": noted.broken,
        "bounds": bounds,
    }


def _silences(noted: Noted) -> dict[str, Sequence[tuple[float, float]]]:
    return {"udp": noted.udp, "tcp": noted.tcp}
