"""Which counters of a session came before: a sliding window (RFC 6479)."""

from __future__ import annotations

_WORDS = 64
_BITS = 64
WINDOW = (_WORDS - 1) * _BITS
"""Counters this far behind the highest are still told apart: 4032. Raising it tolerates more reordering and
costs 8 bytes for each 64. One word is always being cleared, hence not all 4096 bits count."""


class ReplayWindow:
    """Accepts each counter once. The ring of words is never shifted; advancing clears the words it enters."""

    __slots__ = ("_highest", "_ring")

    def __init__(self) -> None:
        self._ring = [0] * _WORDS
        self._highest = -1

    def is_fresh(self, counter: int) -> bool:
        """Say whether this counter may be accepted. Changes nothing: it is asked before authentication."""
        if counter > self._highest:
            return True
        if counter + WINDOW <= self._highest:
            return False
        return not self._ring[(counter // _BITS) % _WORDS] >> (counter % _BITS) & 1

    def accept(self, counter: int) -> None:
        """Remember a fresh counter whose datagram was authentic."""
        word = counter // _BITS
        if counter > self._highest:
            current = self._highest // _BITS
            if current != word:
                for entered in range(current + 1, min(word, current + _WORDS) + 1):
                    self._ring[entered % _WORDS] = 0
            self._highest = counter
        self._ring[word % _WORDS] |= 1 << (counter % _BITS)

    def accept_all(self, first: int, count: int) -> None:
        """Remember consecutive counters, word by word."""
        end = first + count
        while first < end:
            bits = min(end - first, _BITS - first % _BITS)
            self.accept(first + bits - 1)
            self._ring[first // _BITS % _WORDS] |= ((1 << bits) - 1) << (first % _BITS)
            first += bits
