"""Which datagrams of a batch make which groups. Pure.

A *run* is what can be opened together: consecutive groups of one super-packet, all datagrams in order, or one group
of any kind. A group whose datagrams come apart waits until it has all of them.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, Protocol

from kairos_net_vpn.batch import HEADER_SIZE
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.records import HEADER, KIND, LAST, MAX_GROUP, MAX_MEMBERS, SUPER, lay_headers

MAX_WAITING = 16
"""Groups of a session that wait for datagrams. Raising it tolerates more reordering, and lets whoever is on the
path and forges datagrams make us hold more: 64 KiB each."""


class Datagrams(Protocol):
    """A Batch, or a Loose."""

    chunk: int
    headers: bytearray
    body: memoryview


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

    def counter(self) -> int:
        return (self.low | self.high << 32) + self.group


class Run(NamedTuple):
    """Groups with all their members. That of group i is `sealed[i * step : (i + 1) * step]`; the last may be shorter.

    Its nonce is the 12 bytes of `headers` from `nonce + i * nonce_step` on. `head` is the first one's.
    """

    head: Head
    groups: int
    datagrams: int
    is_last: bool
    sealed: memoryview
    step: int
    headers: bytearray
    nonce: int
    nonce_step: int


class Gatherer:
    """Finds the runs in what comes for one session, and keeps the parts of groups."""

    __slots__ = ("_drops", "_waiting")

    def __init__(self, drops: Counter[VpnDrop]) -> None:
        self._drops = drops
        self._waiting: dict[bytes, list[bytes | None]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

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
        return self._wait(batch, at, head, span), 1

    def _wait(self, batch: Datagrams, at: int, head: Head, span: Span) -> Run | None:
        """Keep one datagram of a group; return the group as a run once it has all of them."""
        size = span.tail if at == span.end - 1 else batch.chunk
        if (head.members - 1) * size > MAX_GROUP:
            raise Refused(VpnDrop.MALFORMED)
        header = batch.headers[HEADER_SIZE * at : HEADER_SIZE * (at + 1)]
        header[6] = 0
        name = bytes(header)
        parts = self._waiting.get(name)
        if parts is None:
            if len(self._waiting) >= MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]
                self._drops[VpnDrop.INCOMPLETE] += 1
            parts = self._waiting[name] = [None] * head.members
        parts[head.member] = bytes(batch.body[at * batch.chunk : at * batch.chunk + size])
        have = [part for part in parts if part is not None]
        if sum(map(len, have)) > MAX_GROUP:
            del self._waiting[name]
            raise Refused(VpnDrop.MALFORMED)
        if len(have) < head.members:
            return None
        del self._waiting[name]
        sealed = memoryview(b"".join(have))
        return Run(head, 1, head.members, bool(head.kind & LAST), sealed, len(sealed), header, 4, 0)


def _count_in_order(batch: Datagrams, at: int, head: Head, end: int) -> int:
    """Return how many datagrams from one on are whole groups of its record in order.

    Usually all that have the same number, which one comparison shows; else something is missing among them.
    """
    place = HEADER_SIZE * at
    numbers = batch.headers[place + 10 : HEADER_SIZE * end : HEADER_SIZE]
    count = len(numbers) - len(numbers.lstrip(numbers[:1]))
    is_last = bool(batch.headers[HEADER_SIZE * (at + count - 1) + 4] & LAST)
    if not is_last:
        count -= count % head.members
    first = batch.headers[place : place + HEADER_SIZE]
    if (
        count
        and lay_headers(first, head.members, count, is_last=is_last) == batch.headers[place:][: HEADER_SIZE * count]
    ):
        return count
    return _count_groups(batch, at, head, end)


def _count_groups(batch: Datagrams, at: int, head: Head, end: int) -> int:
    """Return the same, group by group."""
    count, group = 0, head.group
    first = batch.headers[HEADER_SIZE * at : HEADER_SIZE * (at + 1)]
    while at + count < end:
        place = HEADER_SIZE * (at + count)
        header = batch.headers[place : place + HEADER_SIZE]
        members = header[5]
        continues = header[:4] == first[:4] and header[8:] == first[8:] and header[7] == group and not header[6]
        if not continues or not 0 < members <= head.members or not _is_whole(batch, at + count, members, end):
            break
        count += members
        group += 1
        if header[4] & LAST or members < head.members:
            break
    return count


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
    start, size = at * batch.chunk, count * batch.chunk
    if at + count == span.end:
        size += span.tail - batch.chunk
    is_last = bool(batch.headers[HEADER_SIZE * (at + count - 1) + 4] & LAST)
    return Run(
        head=head,
        groups=-(-count // head.members),
        datagrams=count,
        is_last=is_last,
        sealed=batch.body[start : start + size],
        step=head.members * batch.chunk,
        headers=batch.headers,
        nonce=HEADER_SIZE * at + 4,
        nonce_step=HEADER_SIZE * head.members,
    )
