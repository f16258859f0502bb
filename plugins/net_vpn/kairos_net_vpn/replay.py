"""Which counters of a session came before: a sliding window (RFC 4303, 3.4.3). Pure."""

from __future__ import annotations

WINDOW = 4032
"""Counters this far behind the highest are still told apart. Raising it tolerates more reordering, and costs a byte for
each 8 and time where datagrams are lost or out of order."""
_MASK = (1 << WINDOW) - 1


class ReplayWindow:
    """Accepts each counter once.

    Nearly all come one behind the other, so only the beginning of the run that ends with the highest is noted. What
    came before the run are bits of one integer, which is shifted when a counter is left out.
    """

    __slots__ = ("_first", "_seen", "highest")

    def __init__(self) -> None:
        self._first, self.highest = 0, -1
        """The run: all from one to the other were accepted. Whoever accepts the next one may set `highest` to it."""
        self._seen = 0
        """Bit i: whether `_first` - 1 - i was."""

    def is_fresh(self, counter: int) -> bool:
        """Say whether this counter may be accepted. Changes nothing: it is asked before authentication."""
        if counter > self.highest:
            return True
        before = self._first - 1 - counter
        return before >= 0 and counter + WINDOW > self.highest and not self._seen >> before & 1

    def accept(self, counter: int) -> bool:
        """Remember a counter whose datagram was authentic; say whether it was fresh, else nothing happens."""
        ahead = counter - self.highest
        if ahead == 1:
            self.highest = counter
        elif ahead > 1:
            run = min(self.highest - self._first + 1, WINDOW)
            seen = self._seen << run | (1 << run) - 1
            self._seen = seen << min(ahead - 1, WINDOW) & _MASK
            self._first = self.highest = counter
        elif self.is_fresh(counter):
            self._seen |= 1 << (self._first - 1 - counter)
        else:
            return False
        return True

    def accept_all(self, first: int, count: int) -> None:
        """Remember consecutive counters."""
        for counter in range(first, first + count):
            self.accept(counter)
