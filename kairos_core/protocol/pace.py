"""How fast something may happen, for each of many: token buckets, without a clock of their own."""

from __future__ import annotations

from collections.abc import Hashable

MAX_BUCKETS = 4096
"""Buckets remembered. One that is forgotten is full again: whoever invents so many names gains what they would
have had anyway, and our memory stays bounded."""


class Pace:
    """A bucket for each key: `burst` tokens at first, `rate` more each second, never over `burst`."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: dict[Hashable, tuple[float, float]] = {}  # tokens left, and when that was

    def has(self, key: Hashable, amount: float, now: float) -> bool:
        """Say whether a bucket holds that many tokens; takes none. A clock that was set back adds none."""
        left, then = self._buckets.get(key, (self._burst, now))
        return min(self._burst, left + self._rate * max(0.0, now - then)) >= amount

    def spend(self, key: Hashable, amount: float, now: float) -> None:
        """Take tokens; a bucket may be left owing."""
        left, then = self._buckets.pop(key, (self._burst, now))
        left = min(self._burst, left + self._rate * max(0.0, now - then))
        self._buckets[key] = (left - amount, now)
        if len(self._buckets) > MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
