"""Opening records: from the datagrams of a batch to frames for the TUN device. Pure.

A batch is what one receive gave: whole records, or parts of some. Consecutive groups of a super-packet (a *run*)
are opened in reverse order into one buffer, each `stride` bytes behind the other, so that the end of a slice
overwrites the headers of the next and one super-packet remains, without a copy. A run that lacks its record's
beginning or end is mended to be a super-packet of its own. Groups whose datagrams come apart wait in `_parts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidTag

from kairos_net_vpn import records
from kairos_net_vpn.batch import HEADER_SIZE
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.loss import Losses
from kairos_net_vpn.records import CHACHA, KIND, LAST, MAX_GROUP, MAX_MEMBERS, TAG, Cipher
from kairos_net_vpn.replay import ReplayWindow
from kairos_net_vpn.vnet import VNET_HEADER, check_super, mend

MAX_WAITING = 16
"""Groups of a session that wait for datagrams. Raising it tolerates more reordering, and lets whoever is on the
path and forges datagrams make us hold more."""
OUT_SIZE = 4 * MAX_GROUP
"""Bytes in the buffer that a run is opened into."""
_MEMBERS = bytes(range(MAX_MEMBERS))


class Datagrams(Protocol):
    """A Batch, or a Loose."""

    chunk: int
    headers: bytearray
    body: memoryview


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

    def continues(self, first: Head, group: int) -> bool:
        """Say whether this begins the group of the same record that so many after the first is."""
        return self[5:] == first[5:] and self.group == first.group + group and self.members <= first.members


class Group(NamedTuple):
    """A group with all its members, not yet opened."""

    head: Head
    nonce: bytes | bytearray
    sealed: memoryview


class Span(NamedTuple):
    """Datagrams of a batch, from `first` to before `end`; the last of them has `tail` bytes of body."""

    first: int
    end: int
    tail: int


class Opener:
    """Opens what the peer seals in one session; counts what it refuses in `drops`."""

    __slots__ = ("_aes", "_chacha", "_key", "_parts", "_window", "drops", "losses", "report")

    def __init__(self, key: bytes, drops: Counter[VpnDrop]) -> None:
        self._aes: Cipher = records.derive_cipher(key, chacha=False)
        self._chacha: Cipher = records.derive_cipher(key, chacha=True)
        self._window = ReplayWindow()
        self._parts: dict[bytes, list[bytes | None]] = {}
        self.drops = drops
        self.losses = Losses()
        self.report: tuple[int, int] | None = None
        """What the peer last reported of our records; whoever reads it clears it."""

    def open(self, batch: Datagrams, span: Span, out: memoryview) -> Iterator[memoryview]:
        """Yield the frames in some datagrams of a batch; all of them carry this session's index. Never raises.

        A frame lies in `out`, which has OUT_SIZE bytes, and is good until the next is asked for.
        """
        at, end, _ = span
        while at < end:
            try:
                head, groups, used = self._gather(batch, at, span)
                at += used
                yield from self._open_groups(head, groups, out)
            except Refused as refused:
                self.drops[refused.drop] += 1
                at += 1

    # -- which datagrams make which groups

    def _gather(self, batch: Datagrams, at: int, span: Span) -> tuple[Head, list[Group], int]:
        """Return the run of groups that begins at a datagram (none when it waits), and how many datagrams it has."""
        head = _head(batch, at)
        if not 0 < head.members <= MAX_MEMBERS or head.member >= head.members:
            raise Refused(VpnDrop.MALFORMED)
        if not _is_whole(batch, at, head, span.end):
            complete = self._wait(batch, at, head, span)
            return head, [complete] if complete else [], 1
        groups = [_group(batch, at, head, span)]
        used = head.members
        while head.kind & KIND == records.SUPER and at + used < span.end:
            following = _head(batch, at + used)
            if not following.continues(head, len(groups)) or not _is_whole(batch, at + used, following, span.end):
                break
            groups.append(_group(batch, at + used, following, span))
            used += following.members
        return head, groups, used

    def _wait(self, batch: Datagrams, at: int, head: Head, span: Span) -> Group | None:
        """Keep one datagram of a group; return the group once it has all of them."""
        if not self._window.is_fresh(head.counter()):
            raise Refused(VpnDrop.REPLAYED)
        size = span.tail if at == span.end - 1 else batch.chunk
        if (head.members - 1) * size > MAX_GROUP:
            raise Refused(VpnDrop.MALFORMED)
        raw = batch.headers[HEADER_SIZE * at : HEADER_SIZE * (at + 1)]
        raw[6] = 0
        name = bytes(raw)
        parts = self._parts.get(name)
        if parts is None:
            if len(self._parts) >= MAX_WAITING:
                del self._parts[next(iter(self._parts))]
                self.drops[VpnDrop.INCOMPLETE] += 1
            parts = self._parts[name] = [None] * head.members
        parts[head.member] = bytes(batch.body[at * batch.chunk : at * batch.chunk + size])
        have = [part for part in parts if part is not None]
        if len(have) < head.members:
            return None
        del self._parts[name]
        return Group(head, name[4:], memoryview(b"".join(have)))

    # -- what is in them

    def _open_groups(self, head: Head, groups: list[Group], out: memoryview) -> Iterator[memoryview]:
        kind = head.kind & KIND
        if kind == records.SUPER and groups:
            yield from self._open_super(groups, out)
            return
        for group in groups:
            size = self._open_group(group, out)
            if kind == records.PACKETS:
                yield from _entries(out[:size])
            elif kind == records.REPORT:
                self.report = records.read_report(out[:size])
            else:
                raise Refused(VpnDrop.MALFORMED)

    def _open_super(self, groups: list[Group], out: memoryview) -> Iterator[memoryview]:
        """Open a run in reverse order. Where a group is refused it falls into two, each mended and yielded.

        The refused group has spoilt the headers of the one behind it, which is therefore opened once more.
        """
        stride = groups[0].head.stride
        end = len(groups)
        if (end - 1) * stride + len(groups[-1].sealed) > 2 * MAX_GROUP:
            raise Refused(VpnDrop.MALFORMED)
        size = 0
        for i in reversed(range(len(groups))):
            try:
                opened = self._open_group(groups[i], out[i * stride :])
            except Refused as refused:
                self.drops[refused.drop] += 1
                if i + 1 < end:
                    self._unseal(groups[i + 1], out[(i + 1) * stride :])
                    yield from self._finish(groups[i + 1 : end], out[(i + 1) * stride : (end - 1) * stride + size])
                end = i
            else:
                size = opened if i == end - 1 else size
        if end:
            yield from self._finish(groups[:end], out[: (end - 1) * stride + size])

    def _finish(self, groups: list[Group], frame: memoryview) -> Iterator[memoryview]:
        """Yield the super-packet, or the part of one, that these groups are."""
        first, last = groups[0].head, groups[-1].head
        try:
            header = check_super(frame)
            is_last = bool(last.kind & LAST)
            if not is_last:  # behind its slice is what fills the group
                frame = frame[: header + len(groups) * first.stride]
            if first.group or not is_last:
                mend(frame, first.group * first.stride, is_last=is_last)
        except Refused as refused:
            self.drops[refused.drop] += 1
            return
        yield frame

    def _open_group(self, group: Group, out: memoryview) -> int:
        """Open one group into `out` and return its size. Raises Refused (replayed, unseal, truncated)."""
        counter = group.head.counter()
        if counter >= records.MAX_COUNTER or not self._window.is_fresh(counter):
            raise Refused(VpnDrop.REPLAYED)
        size = self._unseal(group, out)
        self._window.accept(counter)
        self.losses.note(counter, group.head.members)
        return size

    def _unseal(self, group: Group, out: memoryview) -> int:
        """Decrypt. When it raises Refused, `out` holds bytes that nobody may see."""
        cipher = self._chacha if group.head.kind & CHACHA else self._aes
        size = len(group.sealed) - TAG
        if size < 0:
            raise Refused(VpnDrop.TRUNCATED)
        try:
            cipher.decrypt_into(group.nonce, group.sealed, None, out[:size])
        except InvalidTag:
            raise Refused(VpnDrop.UNSEAL) from None
        return size


def _head(batch: Datagrams, at: int) -> Head:
    return Head._make(records.HEADER.unpack_from(batch.headers, HEADER_SIZE * at))


def _is_whole(batch: Datagrams, at: int, head: Head, end: int) -> bool:
    """Say whether all members of the group that a datagram belongs to follow each other from it on."""
    members = head.members
    if head.member or not 0 < members <= end - at:
        return False
    place = HEADER_SIZE * at
    expected = batch.headers[place : place + HEADER_SIZE] * members
    expected[6::HEADER_SIZE] = _MEMBERS[:members]
    return expected == batch.headers[place : place + HEADER_SIZE * members]


def _group(batch: Datagrams, at: int, head: Head, span: Span) -> Group:
    place = HEADER_SIZE * at
    size = head.members * batch.chunk
    if at + head.members == span.end:
        size += span.tail - batch.chunk
    start = at * batch.chunk
    return Group(head, batch.headers[place + 4 : place + HEADER_SIZE], batch.body[start : start + size])


def _entries(plain: memoryview) -> Iterator[memoryview]:
    """Yield the frames of a bundle. Raises Refused (malformed) at what is none."""
    at, end = 0, len(plain)
    while at < end:
        start = at + 2
        at = start + int.from_bytes(plain[at:start], "little")
        if at > end or at - start <= VNET_HEADER:
            raise Refused(VpnDrop.MALFORMED)
        yield plain[start:at]
