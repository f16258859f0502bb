"""How much of what a peer sends is lost on the way, and how many datagrams a group should have then. Pure.

A group is lost when one of its datagrams is, and does not come again (`repairs.py`). Large groups cost less (one call
of the cipher, headers once), small ones lose less. The receiver counts, and tells the sender once a second while data
flows, sooner when much does.
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
"""Datagrams in a group where less than this share of datagrams is lost for good; above all of these, 1. Lowering the
numbers loses less and costs the processor more."""
QUIET = 10
"""Reports without a loss after which what is sent is kept no longer. Raising it is ready for the next loss for longer;
keeping costs memory, and the processor where the buffers do not stay in its cache."""
AGAIN = 1 / 16
"""Datagrams that are sent again at most, for each that is sent: twice what a receiver may ask for."""
CREDIT = 256.0
"""Of these at a moment."""
PROBES = 64
"""Probes without an answer whose loss says nothing of the path. Raising it overlooks more that was lost otherwise."""
MEMORY = 0.5
"""Weight of the past in the estimate. Raising it follows a change later, and is less moved by chance."""


class Losses:
    """What the receiver counts of one session."""

    __slots__ = ("_due", "_told", "datagrams", "highest", "opened", "soonest")

    def __init__(self) -> None:
        self.highest = -1
        """The highest counter of an authentic group."""
        self.opened = self.datagrams = 0
        """Authentic groups so far, and all datagrams that belonged to them."""
        self._told = (-1, 0, 0)
        """At the last report: the highest counter, the groups opened until it or waiting, the datagrams."""
        self._due = 0.0
        self.soonest = 0.0
        """When the next report may be due."""

    def note(self, counter: int, groups: int, datagrams: int) -> None:
        """Count authentic groups, of which the last has this counter."""
        if counter > self.highest:  # noqa: PLR1730 - max() takes three times as long, for each packet
            self.highest = counter
        self.opened += groups
        self.datagrams += datagrams

    def is_due(self, now: float) -> bool:
        """Say whether to report: it is time, or much came; and something did."""
        if now < self.soonest:
            return False
        arrived = self.datagrams - self._told[2]
        return arrived >= ENOUGH or (arrived > 0 and now >= self._due)

    def take(self, now: float, waiting: int = 0) -> tuple[int, int]:
        """Return groups lost and datagrams arrived since the last report; `waiting` groups may still become whole."""
        highest, opened, datagrams = self._told
        report = max(0, self.highest - highest - (self.opened - opened) - waiting), self.datagrams - datagrams
        self._told = self.highest, self.opened + waiting, self.datagrams
        self._due, self.soonest = now + REPORT_EVERY, now + SOONEST
        return report


class Members:
    """What the sender makes of the reports of one peer; outlives its sessions."""

    __slots__ = ("_credit", "_probes", "_quiet", "count", "keeps", "share")

    def __init__(self) -> None:
        self.share = START
        """Of the datagrams that is lost for good."""
        self.count = _members_for(START)
        self._quiet = QUIET
        self.keeps = False
        """Whether to keep what is sent, since something was lost lately."""
        self._credit = 0.0
        self._probes = 0

    def kept(self, datagrams: int) -> None:
        """Note what was sent, and may be asked for again."""
        self._credit = min(CREDIT, self._credit + datagrams * AGAIN)

    def asked(self) -> None:
        """Note that the peer lacks something."""
        self._quiet, self.keeps = 0, True

    def spend(self) -> bool:
        """Say whether one datagram more may be sent again."""
        if self._credit < 1:
            return False
        self._credit -= 1
        return True

    def probed(self) -> None:
        """Note that a datagram left to see whether the path is wide enough for it."""
        self._probes = min(PROBES, self._probes + 1)

    def answered(self) -> None:
        """Note that it was."""
        self._probes = max(0, self._probes - 1)

    def learn(self, lost: int, arrived: int) -> int:
        """Take a report; return how much was lost that was no probe.

        A short one moves the estimate by as much as it can know.
        """
        probes = min(lost, self._probes)
        self._probes -= probes
        lost -= probes
        if arrived:
            self._quiet = 0 if lost else self._quiet + 1
            self.keeps = self._quiet < QUIET
            share = lost / (lost + arrived)
            weight = (1 - MEMORY) * min(1.0, arrived / 256)
            self.share += (share - self.share) * weight
            self.count = _members_for(self.share)
        return lost


def _members_for(share: float) -> int:
    return next((members for limit, members in STEPS if share < limit), 1)
