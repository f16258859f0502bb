"""The time that the node goes by: its own clock's, or the network's where its own is far off.

Keys and leases need clocks that roughly agree, and machines without a clock battery start with any. Each session
begins with both clocks (HELLO); the node takes the upper median of all it has heard of, its own included. So one wrong
clock among three is outvoted, and of two the later wins: a clock that was without power is behind. Only the clocks
themselves are compared and never times that were taken over, so nothing feeds on itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from kairos_core.model import PeerId

logger = logging.getLogger(__name__)

TOLERANCE = 60.0
"""Seconds that the own clock may be off and still be gone by. Raising it brings entries nearer to being refused
(`kairos_core.protocol.clock.MAX_AHEAD`); lowering it changes the time for trifles."""

MORE_CLOCKS = 32
"""Clocks to hear where two disagree. Raising it outvotes more wrong ones, at a stream each."""

MAX_CLOCKS = 256
"""Clocks remembered. Stops a member that invents peers from filling our memory; more decides no better."""


class NetworkTime:
    """A wall clock that other clocks can correct."""

    def __init__(self, own: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._own, self._monotonic = own, monotonic
        self._heard: dict[PeerId, float] = {}  # the wall time at which our monotonic clock was zero, by their clocks

    def now(self) -> float:
        """Return the wall time (unix seconds) to go by."""
        return self._own() + self.offset

    def own_ms(self) -> int:
        """Return what our own clock shows, in milliseconds: what peers are told."""
        return max(0, int(self._own() * 1000))

    @property
    def offset(self) -> float:
        """Seconds to add to our own clock; 0.0 as long as it is right within TOLERANCE."""
        zero = self._own() - self._monotonic()
        offsets = sorted([0.0, *(heard - zero for heard in self._heard.values())])
        offset = offsets[len(offsets) // 2]
        return offset if abs(offset) > TOLERANCE else 0.0

    def heard(self, peer: PeerId, unix_ms: int) -> bool:
        """Note what a peer's clock shows now. Says whether that changes the time to go by."""
        before = self.offset
        self._heard.pop(peer, None)
        self._heard[peer] = unix_ms / 1000 - self._monotonic()
        if len(self._heard) > MAX_CLOCKS:
            del self._heard[next(iter(self._heard))]
        is_news = abs(self.offset - before) > TOLERANCE
        if is_news:
            logger.warning("%s", self.warning or "the clock of this machine agrees with the network's again")
        return is_news

    def unheard(self, peers: Iterable[PeerId]) -> Iterator[PeerId]:
        """Yield the peers to ask for the time: none while all clocks agree, else so many that MORE_CLOCKS are heard.

        Else the few that were heard may be the wrong ones, for good.
        """
        zero = self._own() - self._monotonic()
        if all(abs(heard - zero) <= TOLERANCE for heard in self._heard.values()):
            return iter(())
        return islice((p for p in peers if p not in self._heard), max(0, MORE_CLOCKS - len(self._heard)))

    @property
    def warning(self) -> str | None:
        """Say in a sentence that our own clock is wrong; None when it is not."""
        offset = self.offset
        if not offset:
            return None
        side = "behind" if offset > 0 else "ahead of"
        return (
            f"the clock of this machine is {_span(abs(offset))} {side} the network's, whose time this node goes by "
            "now. Set the clock, for example with: timedatectl set-ntp true"
        )


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [f"{days} days"] * bool(days) + [f"{hours} h"] * bool(hours) + [f"{minutes} min"]
    return " ".join(parts)
