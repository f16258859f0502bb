"""Which datagrams of a batch make which groups. Pure.

A *run* is what can be opened together: consecutive groups of one super-packet, all datagrams in order, or one group
of any kind. A group whose datagrams come apart waits until it has all of them; `repairs.py` has what is lost of it sent
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, Protocol

from kairos_net_vpn.batch import HEADER_SIZE
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.parts import Buffers, Parts
from kairos_net_vpn.records import (
    CHACHA,
    HEADER,
    KIND,
    LAST,
    MAX_COUNTER,
    MAX_MEMBERS,
    PACKETS,
    SUPER,
    lay_headers,
)

MAX_WAITING = 32
"""Groups of a session that wait for datagrams. Raising it tolerates more reordering and repairs longer paths, and lets
whoever is on the path and forges datagrams make us hold more: 64 KiB each."""
MAX_ASKED = 1024
"""Groups remembered of which a datagram may come twice. Raising it tells later ones from replayed ones."""


class Datagrams(Protocol):
    """A Batch, or a Loose."""

    chunk: int
    headers: bytearray
    body: memoryview

    @property
    def words(self) -> memoryview: ...


class Span(NamedTuple):
    """Datagrams of a batch, from `first` to before `end`; the last of them has `tail` bytes of body."""

    first: int
    end: int
    tail: int


class Head(NamedTuple):
    """The fields of a header; the number in its two parts."""

    session: int
    kind: int
    members: int
    member: int
    group: int
    stride: int
    low: int
    high: int


class Run(NamedTuple):
    """Groups with all their members. That of group i is `sealed[i * step : (i + 1) * step]`; the last may be shorter.

    Its nonce is the 12 bytes of `headers` from `nonce + i * nonce_step` on, its counter `counter + i`. `head` is the
    first one's.
    """

    head: Head
    counter: int
    groups: int
    datagrams: int
    is_last: bool
    sealed: memoryview
    step: int
    headers: bytearray
    nonce: int
    nonce_step: int


class Gatherer:
    """Finds the runs in what comes for one session, and keeps the parts of groups.

    `is_fresh` says whether a counter may still be accepted.
    """

    __slots__ = ("_asked", "_buffers", "_drops", "_is_fresh", "repaired", "waiting")

    def __init__(self, drops: Counter[VpnDrop], is_fresh: Callable[[int], bool] = lambda _: True) -> None:
        self._drops, self._is_fresh = drops, is_fresh
        self._asked: dict[int, None] = {}
        """Counters of the groups that became whole lately after something of them was asked for."""
        self._buffers = Buffers()
        self.repaired: list[Parts] = []
        """Groups that were asked for again and have become whole; whoever reads it clears it."""
        self.waiting: dict[bytes, Parts] = {}
        """Groups that lack datagrams, by the header of their first, the oldest first."""

    def __len__(self) -> int:
        return len(self.waiting)

    def give_up(self, name: bytes) -> None:
        """Wait for a group no longer."""
        self._forget(name)
        self._drops[VpnDrop.INCOMPLETE] += 1

    def _forget(self, name: bytes) -> None:
        self._buffers.give_back(self.waiting.pop(name).buffer)

    def count_before(self, counter: int) -> int:
        """Return how many groups wait that are not behind a counter."""
        return sum(parts.counter <= counter for parts in self.waiting.values())

    def gather(self, batch: Datagrams, at: int, span: Span) -> tuple[Run | None, int]:
        """Return the run that begins at a datagram, and how many datagrams to go on; no run while it waits.

        Raises Refused (malformed).
        """
        place = HEADER_SIZE * at
        head = Head._make(HEADER.unpack_from(batch.headers, place))
        members = head.members
        if not 0 < members <= MAX_MEMBERS or head.member >= members:
            raise Refused(VpnDrop.MALFORMED)
        if head.member == 0:
            if head.kind & KIND == SUPER:
                count = _count_in_order(batch, at, head, span.end)
            else:
                count = members if _is_whole(batch, at, members, span.end) else 0
            if count:
                return _run(batch, at, count, (head, span)), count
        return self._wait(batch, at, head, span)

    def _wait(self, batch: Datagrams, at: int, head: Head, span: Span) -> tuple[Run | None, int]:
        """Keep what there is of a group, and return it as a run once it has all of its datagrams.

        Those that follow each other are taken at once: a receive often ends in the middle of a group.
        """
        counter = _counter(head)
        if counter >= MAX_COUNTER or not self._is_fresh(counter):
            raise Refused(VpnDrop.UNNEEDED if counter in self._asked else VpnDrop.REPLAYED)
        header = batch.headers[HEADER_SIZE * at : HEADER_SIZE * (at + 1)]
        header[6] = 0
        name = bytes(header)
        parts = self.waiting.get(name)
        if parts is None:
            parts = self._expect(name, head)
        count = _count_members(batch, at, head, span.end)
        if count > 1 and parts.has_any(head.member, count):
            count = 1  # some came before: one by one
        if not parts.has_any(head.member, count):
            start, size = at * batch.chunk, _size_of(batch, at, at + count, span)
            try:
                parts.put(head.member, count, batch.body[start : start + size], batch.chunk if count > 1 else size)
            finally:
                if not parts:  # nothing of it has come that fits
                    self._forget(name)
        if not parts.is_whole:
            return None, count
        self._forget(name)
        sealed = parts.sealed()
        if parts.tries:
            self._note_repaired(parts)
        is_last = bool(head.kind & LAST)
        return Run(head, counter, 1, head.members, is_last, sealed, len(sealed), header, 4, 0), count

    def _note_repaired(self, parts: Parts) -> None:
        self.repaired.append(parts)
        if len(self._asked) >= MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._asked[parts.counter] = None

    def _expect(self, name: bytes, head: Head) -> Parts:
        if len(self.waiting) >= MAX_WAITING:
            self.give_up(next(iter(self.waiting)))
        is_super = head.kind & KIND == SUPER
        parts = Parts(head.members, _counter(head), head.group, is_super=is_super, buffer=self._buffers.take())
        self.waiting[name] = parts
        return parts


_ALONE = frozenset(bytes((kind, 1, 0)) for kind in (PACKETS, PACKETS | LAST, PACKETS | CHACHA, PACKETS | LAST | CHACHA))
"""Kind, members and member of a datagram that is a whole group of packets."""


def count_alone(batch: Datagrams, at: int, end: int) -> int:
    """Return how many datagrams from one on are each a whole group of packets, consecutive ones of one record."""
    place = HEADER_SIZE * at
    if bytes(batch.headers[place + 4 : place + 7]) not in _ALONE:
        return 0
    if end - at == 1:
        return 1
    found = batch.headers[place : HEADER_SIZE * end]
    expected = lay_headers(found[:HEADER_SIZE], 1, end - at, is_last=False)
    return end - at if found == expected else _first_difference(found, expected) // HEADER_SIZE


def _counter(head: Head) -> int:
    return (head.low | head.high << 32) + head.group


def _size_of(batch: Datagrams, first: int, end: int, span: Span) -> int:
    """Return the bytes of the bodies of consecutive datagrams."""
    size = (end - first) * batch.chunk
    return size + span.tail - batch.chunk if end == span.end else size


def _count_members(batch: Datagrams, at: int, head: Head, end: int) -> int:
    """Return how many datagrams from one on are consecutive members of its group."""
    most = min(head.members - head.member, end - at)
    place = HEADER_SIZE * at
    expected = batch.headers[place : place + HEADER_SIZE] * most
    expected[6::HEADER_SIZE] = bytes(range(head.member, head.member + most))
    found = batch.headers[place : place + HEADER_SIZE * most]
    return most if found == expected else _first_difference(found, expected) // HEADER_SIZE


def _count_in_order(batch: Datagrams, at: int, head: Head, end: int) -> int:
    """Return how many datagrams from one on are whole groups of its record in order.

    Usually all that have the same number, which one comparison shows; else the groups before the first that differs.
    """
    members, place = head.members, HEADER_SIZE * at
    numbers = batch.headers[place + 10 : HEADER_SIZE * end : HEADER_SIZE]
    count = len(numbers) - len(numbers.lstrip(numbers[:1]))
    is_last = bool(batch.headers[HEADER_SIZE * (at + count - 1) + 4] & LAST)
    if not is_last:
        count -= count % members
    if not count:
        return 0
    found = batch.headers[place : place + HEADER_SIZE * count]
    expected = lay_headers(found[:HEADER_SIZE], members, count, is_last=is_last)
    if found != expected:
        count = _first_difference(found, expected) // HEADER_SIZE
        count -= count % members
    return count


def _first_difference(one: bytes | bytearray, other: bytes | bytearray) -> int:
    """Return where two strings of one length begin to differ; they do."""
    difference = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return ((difference & -difference).bit_length() - 1) // 8


def _is_whole(batch: Datagrams, at: int, members: int, end: int) -> bool:
    """Say whether all members of the group that begins at a datagram follow each other from it on."""
    if members > end - at:
        return False
    place = HEADER_SIZE * at
    if members == 1:
        return True
    first = batch.headers[place : place + HEADER_SIZE]
    return lay_headers(first, members, members, is_last=False) == batch.headers[place : place + HEADER_SIZE * members]


def _run(batch: Datagrams, at: int, count: int, what: tuple[Head, Span]) -> Run:
    head, span = what
    start = at * batch.chunk
    sealed = batch.body[start : start + _size_of(batch, at, at + count, span)]
    is_last = bool(batch.headers[HEADER_SIZE * (at + count - 1) + 4] & LAST)
    members, nonce = head.members, HEADER_SIZE * at + 4
    groups, step = -(-count // members), members * batch.chunk
    counter = _counter(head)
    return Run(head, counter, groups, count, is_last, sealed, step, batch.headers, nonce, HEADER_SIZE * members)
