"""A hybrid logical clock: 48 bits of milliseconds, 16 of counter.

Source: Kulkarni et al. 2014, "Logical Physical Clocks". A value never goes back, stays near the wall clock, and
orders what one node wrote after it saw something else, even where the wall clocks disagree.
"""

from __future__ import annotations

MAX_AHEAD = 600.0
"""Seconds that an entry may lie in the future and still be taken and read. Raising it lets a wrong clock win for
longer; lowering it refuses the entries of honest machines whose clocks are a little off."""


class HybridClock:
    """Gives increasing 64-bit stamps for what this node writes."""

    def __init__(self) -> None:
        self._last = 0

    def tick(self, unix_now: float) -> int:
        """Return the stamp of a new entry: later than every stamp given or observed before.

        Unless the wall clock was set back by more than MAX_AHEAD: peers would refuse a stamp from before that.
        """
        is_ahead = self._last > stamp(unix_now + MAX_AHEAD)
        self._last = stamp(unix_now) if is_ahead else max(self._last + 1, stamp(unix_now))
        return self._last

    def observe(self, hlc: int, unix_now: float) -> None:
        """Take note of a peer's stamp; one from too far ahead is ignored, so a wrong clock does not spread."""
        if hlc <= stamp(unix_now + MAX_AHEAD):
            self._last = max(self._last, hlc)


def stamp(unix_time: float) -> int:
    """Return the first stamp of a wall time (seconds)."""
    return max(0, int(unix_time * 1000)) << 16


def unix_time(hlc: int) -> float:
    """Return the wall time (seconds) of a stamp."""
    return (hlc >> 16) / 1000
