"""How much of what a peer sends is lost on the way, and how many datagrams a group should have then. Pure.

A group is lost when one of its datagrams is. Large groups cost less (one call of the cipher, headers once), small
ones lose less. The receiver counts, and tells the sender once a second while data flows, sooner when much does.
"""

from __future__ import annotations

REPORT_EVERY = 1.0
"""Seconds between two reports at most. Lowering it adapts sooner, and costs a datagram each time."""
ENOUGH = 4096
"""Datagrams that make a report worth sending before its time: what was lost before a stream began, in a flood say, is
no measure of the stream. Raising it adapts later; by so many a share below the step to 16 in a group is told."""
SOONEST = 0.05
"""Seconds between two reports at least."""
START = 0.001
"""Share of datagrams taken for lost while nothing is known. A first report of few datagrams would say anything."""
STEPS = ((0.00002, 64), (0.0002, 16), (0.003, 8), (0.02, 4), (0.05, 2))
"""Datagrams in a group where less than this share of datagrams is lost; above all of these, 1. Lowering the numbers
loses less and costs the processor more, which is what limits a stream at 1 % of loss: 4 were faster than 1, 2 and 8."""
MEMORY = 0.5
"""Weight of the past in the estimate. Raising it follows a change later, and is less moved by chance."""


class Losses:
    """What the receiver counts of one session."""

    __slots__ = ("_arrived", "_due", "_highest", "_opened", "_reported", "_soonest", "opened")

    def __init__(self) -> None:
        self._highest = self._reported = -1
        self._opened = self._arrived = 0
        self._due = self._soonest = 0.0
        self.opened = 0
        """Authentic groups so far."""

    def note(self, counter: int, groups: int, datagrams: int) -> None:
        """Count authentic groups, of which the last has this counter."""
        self._highest = max(self._highest, counter)
        self._opened += groups
        self.opened += groups
        self._arrived += datagrams

    def take(self, now: float) -> tuple[int, int] | None:
        """Return groups lost and datagrams arrived since the last report, if one is due and something came."""
        if now < self._due and (self._arrived < ENOUGH or now < self._soonest):
            return None
        if not self._opened:
            return None
        report = max(0, self._highest - self._reported - self._opened), self._arrived
        self._reported, self._opened, self._arrived = self._highest, 0, 0
        self._due, self._soonest = now + REPORT_EVERY, now + SOONEST
        return report


class Members:
    """What the sender makes of the reports of one peer; outlives its sessions."""

    __slots__ = ("count", "share")

    def __init__(self) -> None:
        self.share = START
        """Of the datagrams that is lost."""
        self.count = _members_for(START)

    def learn(self, lost: int, arrived: int) -> None:
        """Take a report. A short one moves the estimate by as much as it can know."""
        if not arrived:
            return
        share = lost / (lost + arrived)
        weight = (1 - MEMORY) * min(1.0, arrived / 256)
        self.share += (share - self.share) * weight
        self.count = _members_for(self.share)


def _members_for(share: float) -> int:
    return next((members for limit, members in STEPS if share < limit), 1)
