"""What was sent last, for a peer that asks for some of it again. Pure.

A super-packet is sealed into buffers of its own instead of the usual ones, which lie in the processor's cache: so that
is done only for peers on whose paths something is lost. What is sent again is the same bytes under the same nonce.
"""

from __future__ import annotations

from kairos_net_vpn.batch import HEADER_SIZE, Batch

RING = 64
"""Super-packets that are kept: 6 MB, 10 ms at 3 Gbit/s. Raising it repairs what is lost on longer and faster paths."""
MOST = 64
"""Datagrams of one that is kept. TCP's have less than 60; some of UDP's, cut between packets, have more."""


class Kept:
    """The last super-packets to whichever peer, as they were on the wire."""

    __slots__ = ("_at", "_batches", "_lengths", "_names", "_places")

    def __init__(self) -> None:
        self._batches: list[Batch | None] = [None] * RING
        self._names: list[tuple[int, int] | None] = [None] * RING
        self._lengths = [0] * RING
        self._places: dict[tuple[int, int], int] = {}
        self._at = 0

    def lend(self, size: int) -> Batch:
        """Return buffers to seal into, for datagrams of one size; what was in them is kept no longer."""
        self._at = at = (self._at + 1) % RING
        old = self._names[at]
        if old is not None:
            self._names[at] = None
            del self._places[old]
        batch = self._batches[at]
        if batch is None or batch.size != size:
            batch = self._batches[at] = Batch(size, MOST)
        return batch

    def keep(self, session: int, number: int, length: int) -> int:
        """Keep what was sealed into the buffers lent last; return how many datagrams it is.

        It goes by our index of the session and the counter of its first group; `length` bytes of the body are in use.
        """
        at = self._at
        self._names[at], self._lengths[at] = (session, number), length
        self._places[session, number] = at
        batch = self._batches[at]
        assert batch is not None
        return -(-length // batch.chunk)

    def find(self, session: int, number: int, group: int, member: int) -> list[memoryview]:
        """Return header and body of a datagram; nothing when it is not kept, or does not exist."""
        at = self._places.get((session, number))
        batch = self._batches[at] if at is not None else None
        if at is None or batch is None:
            return []
        iov = batch.filled(self._lengths[at])
        groups = batch.headers[7 : HEADER_SIZE * (len(iov) // 2) : HEADER_SIZE]
        first = groups.find(group)
        place = first + member
        if first < 0 or place >= len(groups) or groups[place] != group:
            return []
        return iov[2 * place : 2 * place + 2]
