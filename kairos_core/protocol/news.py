"""News of lives on its way: pushed to a few at once, then carried by probes and answers until all must know.

Source: Das, Gupta, Motivala 2002, "SWIM", section 4.1 (piggybacking, a multiple of log n times each).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, log10

from kairos_core.protocol.wire import MAX_NEWS, News

REPEATS = 3
"""Times, for each power of ten of members, that an item is carried after it was pushed. Raising it makes it surer
that all know, at 13 bytes a time."""

CARRIED = 6
"""Items in one probe or answer: 78 bytes. Raising it spreads many failures at once sooner."""

GATHER = 0.02
"""Seconds that items are gathered before they are pushed; a failed switch makes many at once."""


class Outbox:
    """What a node has yet to tell. One item for each peer: the newest."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, tuple[News, int]] = {}  # those carried least come first
        self._fresh: dict[bytes, News] = {}
        self.due = float("inf")

    def add(self, news: News, members: int, now: float) -> None:
        """Tell this item from now on; it replaces an older one of the same peer."""
        self._waiting.pop(news.tag, None)
        self._waiting[news.tag] = (news, REPEATS * ceil(log10(members + 1)))
        self._fresh[news.tag] = news
        self.due = min(self.due, now + GATHER)

    def to_carry(self, first: News | None = None) -> tuple[News, ...]:
        """Return what goes along with a probe or answer, `first` before all; each item goes a bounded number of times.

        `first` is what we hold of the receiver itself: it must be the first to know, to refute it.
        """
        taken = list(self._waiting.items())[: CARRIED - (first is not None)]
        for tag, (news, left) in taken:
            del self._waiting[tag]
            if left > 1:
                self._waiting[tag] = (news, left - 1)
        carried = [news for _, (news, _) in taken]
        return (first, *carried) if first is not None else tuple(carried)

    def to_push(self, now: float) -> Iterable[tuple[News, ...]]:
        """Yield the items that are new since the last push, if it is time, in as few messages as hold them."""
        if now < self.due:
            return
        items, self._fresh, self.due = list(self._fresh.values()), {}, float("inf")
        for at in range(0, len(items), MAX_NEWS):
            yield tuple(items[at : at + MAX_NEWS])
