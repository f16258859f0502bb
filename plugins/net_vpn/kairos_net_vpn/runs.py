"""Which datagrams of a receive make which groups. Pure.

A *run* is what can be opened together: consecutive groups of one super-packet, all datagrams in order, or one group
of any kind. A group whose datagrams come apart waits until it has all of them; `repairs.py` has what is lost of it sent
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from kairos_net_vpn.datagrams import HEADER_SIZE, Buffer, Received, can_overlay, overlay, uncover
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.parts import MAX_MEMBERS, Buffers, Parts, Piece
from kairos_net_vpn.records import (
    CHACHA,
    HEADER,
    KIND,
    LAST,
    MAX_COUNTER,
    PACKETS,
    SIDE,
    SUPER,
    lay_headers,
)

NEVER = float("inf")
MAX_WAITING = 32
"""Groups of a session that wait for datagrams. Raising it tolerates more reordering and repairs longer paths, and lets
whoever is on the path and forges datagrams make us hold more: 64 KiB each."""
MAX_ASKED = 1024
"""Groups remembered of which a datagram may come twice. Raising it tells later ones from replayed ones."""


class Span(NamedTuple):
    """Some of the datagrams of a receive, from `first` to before `end`; the last of them has `tail` bytes."""

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
    """Groups with all their members, in `datagrams` datagrams of `size` bytes, from `start` to `end` in a buffer.

    Group i begins `i * step` bytes behind the first; the last may be shorter. Its nonce is the 12 bytes of `headers`
    from `nonce + i * nonce_step` on, its counter `counter + i`. `head` is the first one's.
    """

    head: Head
    counter: int
    groups: int
    datagrams: int
    is_last: bool
    buffer: Buffer
    size: int
    start: int
    end: int
    step: int
    headers: bytearray
    nonce: int
    nonce_step: int

    def sealed(self, group: int) -> memoryview:
        """Return a group's ciphertext, in the buffer: the headers that lie over it are taken off."""
        start = self.start + group * self.step
        end = min(start + self.step, self.end)
        members = -(-(end - start) // self.size)
        if members > 1:
            uncover(self.buffer.words, overlay(start, self.size, members))
        return self.buffer.octets[start + HEADER_SIZE * members : end]

    @property
    def room(self) -> int:
        """Bytes of ciphertext in a group that has all members."""
        return self.step - HEADER_SIZE * (self.step // self.size)

    @property
    def last_room(self) -> int:
        """Bytes of ciphertext in the last group."""
        size = self.end - self.start - (self.groups - 1) * self.step
        return size - HEADER_SIZE * -(-size // self.size)


class Gatherer:
    """Finds the runs in what comes for one session, and keeps the parts of groups.

    `is_fresh` says whether a counter may still be accepted; what waits lies in `buffers`.
    """

    __slots__ = ("_asked", "_buffers", "_drops", "_is_fresh", "due", "repaired", "undecided", "waiting")

    def __init__(self, drops: Counter[VpnDrop], is_fresh: Callable[[int], bool], buffers: Buffers) -> None:
        self._drops, self._is_fresh, self._buffers = drops, is_fresh, buffers
        self._asked: dict[int, None] = {}
        """Counters of the groups that became whole lately after something of them was asked for."""
        self.repaired: list[Parts] = []
        """Groups that were asked for again and have become whole; whoever reads it clears it."""
        self.waiting: dict[bytes, Parts] = {}
        """Groups that lack datagrams, by the header of their first, the oldest first."""
        self.undecided: list[Parts] = []
        """Super-packets among them for which nobody knows yet what to ask; whoever asks takes them out."""
        self.due = NEVER
        """When there may be something to ask for: while there is one of these two, at once; else whoever asks knows."""

    def __len__(self) -> int:
        return len(self.waiting)

    def give_up(self, name: bytes) -> None:
        """Wait for a group no longer."""
        self._forget(name)
        self._drops[VpnDrop.INCOMPLETE] += 1

    def _forget(self, name: bytes) -> None:
        parts = self.waiting.pop(name)
        parts.is_over = True
        self._buffers.give_back(parts.buffer)

    def count_before(self, counter: int) -> int:
        """Return how many groups wait that are not behind a counter."""
        return sum(parts.counter <= counter for parts in self.waiting.values())

    def gather(self, wire: Received, at: int, span: Span) -> tuple[Run | None, int]:
        """Return the run that begins at a datagram, and how many datagrams to go on; no run while it waits.

        Raises Refused (malformed).
        """
        place = HEADER_SIZE * at
        head = Head._make(HEADER.unpack_from(wire.headers, place))
        members = head.members
        if not 0 < members <= MAX_MEMBERS or head.member >= members:
            raise Refused(VpnDrop.MALFORMED)
        if head.member == 0:
            if head.kind & KIND == SUPER:
                count = _count_in_order(wire, at, head, span.end)
            else:
                count = members if _is_whole(wire, at, members, span.end) else 0
            if count and not can_overlay(wire.size, min(count, members)):
                raise Refused(VpnDrop.MALFORMED)
            if count:
                return _run(wire, at, count, (head, span)), count
        return self._wait(wire, at, head, span)

    def take(self, piece: Piece, wire: Received) -> Parts | None:
        """Keep a receive that is some of a super-packet of one group; return what has come of it so far.

        Once that is whole it is over, and whoever has it gives its buffer back. None when it may not come, or some of
        it did before: then nothing has changed.
        """
        name, counter = piece.name, piece.counter
        parts = self.waiting.get(name)
        if parts is None:
            if counter >= MAX_COUNTER or not self._is_fresh(counter):
                return None
            parts = self._expect(name, piece.members, counter)
        elif not parts.can_take(piece):
            return None
        parts.take(piece, wire)
        if parts.is_whole:
            self._complete(parts)
        return parts

    def take_one(self, datagram: memoryview) -> Parts | None:
        """Keep a datagram of a super-packet of one group of which others wait; the same as `take` for the rest."""
        header = datagram[:HEADER_SIZE].tobytes()
        parts = self.waiting.get(header[:6] + b"\0" + header[7:])
        if parts is None or header[4] not in _LASTS or header[7] or not parts.take_one(header[6], datagram):
            return None
        if parts.is_whole:
            self._complete(parts)
        return parts

    def _complete(self, parts: Parts) -> None:
        """Let go of a group that is whole, but for its buffer."""
        del self.waiting[parts.name]
        parts.is_over = True
        if parts.tries:
            self._note_repaired(parts)

    def _wait(self, wire: Received, at: int, head: Head, span: Span) -> tuple[Run | None, int]:
        """Keep what there is of a group, and return it as a run once it has all of its datagrams.

        Those that follow each other are taken at once: a receive often ends in the middle of a group.
        """
        counter = _counter(head)
        if counter >= MAX_COUNTER or not self._is_fresh(counter):
            raise Refused(VpnDrop.UNNEEDED if counter in self._asked else VpnDrop.REPLAYED)
        header = wire.headers[HEADER_SIZE * at : HEADER_SIZE * (at + 1)]
        header[6] = 0
        name = bytes(header)
        parts = self.waiting.get(name)
        if parts is None:
            parts = self._expect(name, head.members, counter, head.group, is_super=head.kind & KIND == SUPER)
        count = _count_members(wire, at, head, span.end)
        if count > 1 and parts.has_any(head.member, count):
            count = 1  # some came before: one by one
        if not parts.has_any(head.member, count):
            start, size = at * wire.size, _size_of(wire, at, at + count, span)
            try:
                parts.put(head.member, count, wire.octets[start : start + size], wire.size if count > 1 else size)
            finally:
                if not parts:  # nothing of it has come that fits
                    self._forget(name)
        if not parts.is_whole:
            return None, count
        self._forget(name)
        parts.close()
        if parts.tries:
            self._note_repaired(parts)
        is_last, length, size = bool(head.kind & LAST), parts.length, parts.size
        step = head.members * size
        run = Run(head, counter, 1, head.members, is_last, parts.buffer, size, 0, length, step, header, 4, 0)
        return run, count

    def _note_repaired(self, parts: Parts) -> None:
        self.repaired.append(parts)
        self.due = 0.0
        if len(self._asked) >= MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._asked[parts.counter] = None

    def _expect(self, name: bytes, members: int, counter: int, group: int = 0, *, is_super: bool = True) -> Parts:
        if len(self.waiting) >= MAX_WAITING:
            self.give_up(next(iter(self.waiting)))
        parts = Parts(name, members, counter, group, self._buffers.take())
        self.waiting[name] = parts
        if is_super:
            if len(self.undecided) >= MAX_WAITING:  # nobody asks in this session
                self.undecided = [other for other in self.undecided if not other.is_over]
            self.undecided.append(parts)
            self.due = 0.0
        return parts


ALONE = frozenset(bytes((kind, 1, 0)) for kind in (PACKETS, PACKETS | LAST, PACKETS | CHACHA, PACKETS | LAST | CHACHA))
"""Kind, members and member of a datagram that is a whole group of packets."""


MESSAGES = frozenset(bytes((kind, 1, 0)) for kind in (SIDE, SIDE | LAST, SIDE | CHACHA, SIDE | LAST | CHACHA))
"""The same of a datagram that is a whole side message."""
_LASTS = frozenset({SUPER | LAST, SUPER | LAST | CHACHA})
"""Kinds of a group that ends a super-packet."""


def count_alone(wire: Received, at: int, end: int) -> int:
    """Return how many datagrams from one on are each a whole group of packets, consecutive ones of one record."""
    start = at * wire.size
    if wire.octets[start + 4 : start + 7].tobytes() not in ALONE:
        return 0
    if end - at == 1:
        return 1
    found = wire.headers[HEADER_SIZE * at : HEADER_SIZE * end]
    expected = lay_headers(found[:HEADER_SIZE], 1, end - at, is_last=False)
    return end - at if found == expected else _first_difference(found, expected) // HEADER_SIZE


def end_of_session(wire: Received, first: int, count: int) -> int:
    """Return where the datagrams with the same index as the first end."""
    if count - first == 1:
        return count
    headers, place, rest = wire.headers, HEADER_SIZE * first, count - first
    index = headers[place : place + 4]
    # One column at a time: all that came have one index but at the change from one session to the next.
    if (
        headers[place : HEADER_SIZE * count : HEADER_SIZE] == index[:1] * rest
        and headers[place + 1 : HEADER_SIZE * count : HEADER_SIZE] == index[1:2] * rest
        and headers[place + 2 : HEADER_SIZE * count : HEADER_SIZE] == index[2:3] * rest
        and headers[place + 3 : HEADER_SIZE * count : HEADER_SIZE] == index[3:] * rest
    ):
        return count
    end = first + 1
    while end < count and headers[HEADER_SIZE * end : HEADER_SIZE * end + 4] == index:
        end += 1
    return end


def _counter(head: Head) -> int:
    return (head.low | head.high << 32) + head.group


def _size_of(wire: Received, first: int, end: int, span: Span) -> int:
    """Return the bytes of consecutive datagrams."""
    size = (end - first) * wire.size
    return size + span.tail - wire.size if end == span.end else size


def _count_members(wire: Received, at: int, head: Head, end: int) -> int:
    """Return how many datagrams from one on are consecutive members of its group."""
    most = min(head.members - head.member, end - at)
    place = HEADER_SIZE * at
    expected = wire.headers[place : place + HEADER_SIZE] * most
    expected[6::HEADER_SIZE] = bytes(range(head.member, head.member + most))
    found = wire.headers[place : place + HEADER_SIZE * most]
    return most if found == expected else _first_difference(found, expected) // HEADER_SIZE


def _count_in_order(wire: Received, at: int, head: Head, end: int) -> int:
    """Return how many datagrams from one on are whole groups of its record in order.

    Usually all that have the same number, which one comparison shows; else the groups before the first that differs.
    """
    members, place = head.members, HEADER_SIZE * at
    numbers = wire.headers[place + 10 : HEADER_SIZE * end : HEADER_SIZE]
    count = len(numbers) - len(numbers.lstrip(numbers[:1]))
    is_last = bool(wire.headers[HEADER_SIZE * (at + count - 1) + 4] & LAST)
    if not is_last:
        count -= count % members
    if not count:
        return 0
    found = wire.headers[place : place + HEADER_SIZE * count]
    expected = lay_headers(found[:HEADER_SIZE], members, count, is_last=is_last)
    if found != expected:
        count = _first_difference(found, expected) // HEADER_SIZE
        count -= count % members
    return count


def _first_difference(one: bytes | bytearray, other: bytes | bytearray) -> int:
    """Return where two strings of one length begin to differ; they do."""
    difference = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return ((difference & -difference).bit_length() - 1) // 8


def _is_whole(wire: Received, at: int, members: int, end: int) -> bool:
    """Say whether all members of the group that begins at a datagram follow each other from it on."""
    if members > end - at:
        return False
    place = HEADER_SIZE * at
    if members == 1:
        return True
    first = wire.headers[place : place + HEADER_SIZE]
    return lay_headers(first, members, members, is_last=False) == wire.headers[place : place + HEADER_SIZE * members]


def _run(wire: Received, at: int, count: int, what: tuple[Head, Span]) -> Run:
    head, span = what
    start, headers = at * wire.size, wire.headers
    end = start + _size_of(wire, at, at + count, span)
    is_last = bool(headers[HEADER_SIZE * (at + count - 1) + 4] & LAST)
    members, nonce = head.members, HEADER_SIZE * at + 4
    groups, step = -(-count // members), members * wire.size
    where = (wire, wire.size, start, end, step)
    return Run(head, _counter(head), groups, count, is_last, *where, headers, nonce, HEADER_SIZE * members)
