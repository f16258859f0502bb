"""Opening records: from the datagrams of a receive to frames for the TUN device. Pure.

The groups of a run are opened in reverse order into one buffer, each `stride` bytes behind the other, so that the
end of a slice overwrites the headers of the next and one super-packet remains, without a copy. A run that lacks its
record's beginning or end is mended to be a super-packet of its own. What is one group is opened where it lies.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator

from cryptography.exceptions import InvalidTag

from kairos_net_vpn.bundle import unbundle
from kairos_net_vpn.datagrams import HEADER_SIZE, WHOLE, Buffer, Received, overlay, uncover
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.lone import Lone
from kairos_net_vpn.loss import Losses
from kairos_net_vpn.order import Order
from kairos_net_vpn.parts import MAX_GROUP, Buffers, Parts
from kairos_net_vpn.records import (
    CHACHA,
    KIND,
    MAX_COUNTER,
    PACKETS,
    REPORT,
    SIDE,
    SUPER,
    Decrypt,
    derive_ciphers,
    read_report,
)
from kairos_net_vpn.repairs import Repairs
from kairos_net_vpn.replay import ReplayWindow
from kairos_net_vpn.runs import Gatherer, Run, Span
from kairos_net_vpn.shape import Alike, Shape, Shapes
from kairos_net_vpn.sides import Wanted
from kairos_net_vpn.small import TAG, SmallCipher
from kairos_net_vpn.vnet import VNET_HEADER, check_super, mend

_NONCE = slice(4, HEADER_SIZE)
_LONE = struct.Struct("<4xB2xB2xHI")
"""Of a header: kind, group, and number in its two parts."""
_SECOND = struct.Struct("<8xQ")
"""Of a header: its second half."""
OUT_SIZE = 4 * MAX_GROUP
"""Bytes in the buffer that a run is opened into."""


class Opener:
    """Opens what the peer seals in one session; counts what it refuses in `drops`, keeps what waits in `buffers`."""

    __slots__ = (
        "_aes", "_chacha", "_repairs", "_shapes", "_small_aes", "_small_chacha", "_window", "buffers", "drops",
        "gatherer", "last", "losses", "order", "report", "sides", "waiting",
    )  # fmt: skip

    def __init__(self, key: bytes, drops: Counter[VpnDrop], buffers: Buffers) -> None:
        self._aes, self._small_aes = derive_ciphers(key, chacha=False)
        self._chacha, self._small_chacha = derive_ciphers(key, chacha=True)
        self._window = ReplayWindow()
        self.buffers = buffers
        self.gatherer = Gatherer(drops, self._window.is_fresh, buffers)
        self._repairs = Repairs()
        self.order = Order(buffers)
        self.last = -1
        """The counter of the group that was opened last."""
        self.waiting = self.gatherer.waiting
        """Groups that lack datagrams. `gatherer.due` says when `choose_wanted` may have something to say."""
        self._shapes = Shapes()
        self.drops = drops
        self.losses = Losses()
        self.report: tuple[int, int] | None = None
        """What the peer last reported of our records; whoever reads it clears it."""
        self.sides: list[bytes] = []
        """Side messages; whoever reads them clears them after each call of `open`."""

    def choose_wanted(self, now: float) -> list[Wanted]:
        """Return what the peer is to send again, if it is due: a new group may be lost, or an answer."""
        return self._repairs.choose(self.gatherer, self.losses, now)

    def first_awaited(self, now: float) -> int | None:
        """Return the counter of the first group that what came behind it should wait for; None without one."""
        return self._repairs.first_awaited(self.waiting.values(), now) if self.waiting else None

    def ask_again_at(self, now: float) -> float | None:
        """Return when to look at what was asked for, should nothing come; None when nothing was."""
        is_awaited = self.order or any(parts.is_awaited for parts in self.waiting.values())
        return now + self._repairs.term if is_awaited else None

    def take_report(self, now: float) -> tuple[int, int]:
        """Return groups lost and datagrams arrived since the last report; call it when `losses` say that one is due."""
        return self.losses.take(now, self.gatherer.count_before(self.losses.highest) if self.waiting else 0)

    def open(self, wire: Received, span: Span, out: memoryview) -> Iterator[memoryview]:
        """Yield the frames in some datagrams of a receive; all of them carry this session's index. Never raises.

        A frame lies in `out`, which has OUT_SIZE bytes, and is good until the next is asked for.
        """
        at, end, _ = span
        while at < end:
            used = 1
            frames: list[memoryview] = []
            try:
                run, used = self.gatherer.gather(wire, at, span)
                if run is not None:
                    self._open(run, out, frames)
            except Refused as refused:
                self.drops[refused.drop] += 1
            yield from frames
            at += used

    def open_alike(self, alike: Alike, decrypt: Decrypt, to: Buffer | None = None) -> memoryview | None:
        """Return the frame in a receive that is one group, begins like one before and has its length; latest in number.

        It lies where it was received, or in `to`. None when it is not so, or is refused: then nothing is noted, and
        `open` has to look closer. Takes a fourth of the time.
        """
        shape, others, firsts, head, first_halves, second_halves, first_kept, second_kept, nonce, sealed, frame = alike
        second, window = head.tobytes(), self._window
        counter = int.from_bytes(second[2:], "little")
        if (
            counter <= window.highest
            or first_halves.tobytes() != firsts
            or second_halves.tobytes() != second * others
            or counter >= MAX_COUNTER
        ):
            return None
        first_halves[WHOLE] = first_kept
        second_halves[WHOLE] = second_kept
        if to is not None:
            frame = to.octets[: len(frame)]
        try:
            decrypt(nonce, sealed, None, frame)
        except InvalidTag:
            first_halves[WHOLE] = memoryview(firsts).cast("Q")
            second_halves[WHOLE] = memoryview(second * others).cast("Q")
            return None
        losses = self.losses
        if counter != window.highest + 1:
            window.accept(counter)
        window.highest = losses.highest = self.last = counter  # as `accept` and `note` set them
        losses.opened += 1
        losses.datagrams += others + 1
        if self._shapes.latest is not shape:
            self._shapes.use(shape)
        return frame

    def open_usual(self, wire: Received, out: memoryview) -> tuple[memoryview, Shape] | None:
        """Return the frame and the shape of a receive that is a super-packet cut like one before; else as `open_alike`.

        The frame lies where it was received, or in `out`.
        """
        shape = self._shapes.find(wire.count)
        if shape is None or shape.size != wire.size or not shape.fits(wire.words):
            return None
        groups, counter = shape.groups, shape.number
        last, end = groups - 1, wire.length
        begin = last * shape.step + shape.places[last][0]
        length = last * shape.stride + end - begin - TAG
        if wire.tail < HEADER_SIZE or end - begin < TAG or length <= VNET_HEADER or counter + groups > MAX_COUNTER:
            return None
        frame = wire.octets[begin : end - TAG] if not last else out[:length]
        try:
            if not self._open_slices(wire, shape, end, out if last else frame):
                return None
        except InvalidTag:
            shape.lay(wire.words)
            return None
        self._window.accept_all(counter, groups)
        self.losses.note(counter + last, groups, wire.count)
        self.last = counter + last
        self._shapes.use(shape)
        return frame, shape

    def _open_slices(self, wire: Received, shape: Shape, end: int, out: memoryview) -> bool:
        """Open the groups of a super-packet in reverse order; False when one came before. Raises InvalidTag.

        A single one may be opened where it lies.
        """
        octets, is_fresh = wire.octets, self._window.is_fresh
        if not all(is_fresh(shape.number + group) for group in range(shape.groups)):
            return False
        decrypt = self.decrypt_of(shape.kind)
        for group in range(shape.groups - 1, -1, -1):
            start, at, (before, places) = group * shape.step, group * shape.stride, shape.places[group]
            uncover(wire.words, places)
            begin, nonce = start + before, start + 4
            decrypt(octets[nonce : nonce + 12], octets[begin:end], None, out[at : at + end - begin - TAG])
            end = start
        return True

    def take_piece(self, wire: Received) -> Parts | None:
        """Keep a receive that is part of a super-packet cut like one before; return all that came of it, else None."""
        shape = self._shapes.find(wire.octets[5])
        piece = shape.piece_in(wire) if shape is not None else None
        return self.gatherer.take(piece, wire) if piece is not None else None

    def open_message(self, wire: Received, length: int) -> bytes | None:
        """Return the side message that a receive of one datagram is; None when it is refused."""
        try:
            return bytes(self._open_alone(wire.octets, 0, length))
        except InvalidTag:
            self.drops[VpnDrop.UNSEAL] += 1
        except Refused as refused:
            self.drops[refused.drop] += 1
        return None

    def open_whole(self, parts: Parts) -> memoryview | None:
        """Return the frame of a super-packet of one group, where what came of it lies; None when it is refused."""
        octets, members, counter = parts.buffer.octets, parts.members, parts.counter
        begin, end = HEADER_SIZE * members, parts.length
        uncover(parts.buffer.words, overlay(0, parts.size, members))
        frame = octets[begin : end - TAG]
        if len(frame) <= VNET_HEADER:
            self.drops[VpnDrop.MALFORMED] += 1
            return None
        try:
            self.decrypt_of(octets[4])(octets[_NONCE], octets[begin:end], None, frame)
        except InvalidTag:
            self.drops[VpnDrop.UNSEAL] += 1
            return None
        if not self._window.accept(counter):  # it came otherwise meanwhile
            self.drops[VpnDrop.REPLAYED] += 1
            return None
        self.losses.note(counter, 1, members)
        self.last = counter
        return frame

    def _open_alone(self, octets: memoryview, start: int, end: int) -> memoryview:
        """Open a datagram that is a whole group, where it lies. Raises InvalidTag, Refused."""
        begin = start + HEADER_SIZE
        kind, group, low, high = _LONE.unpack_from(octets, start)
        counter = (high << 16 | low) + group
        if end - begin < TAG:
            raise Refused(VpnDrop.TRUNCATED)
        if counter >= MAX_COUNTER or not self._window.is_fresh(counter):
            raise Refused(VpnDrop.REPLAYED)
        plain = octets[begin : end - TAG]
        self.decrypt_of(kind)(octets[start + 4 : begin], octets[begin:end], None, plain)
        self._window.accept(counter)
        self.losses.note(counter, 1, 1)
        self.last = counter
        return plain

    def decrypt_of(self, kind: int) -> Decrypt:
        """Return what decrypts groups of a kind."""
        return (self._chacha if kind & CHACHA else self._aes).decrypt_into

    def small_of(self, kind: int) -> SmallCipher:
        """Return what opens small packets of a kind."""
        return self._small_chacha if kind & CHACHA else self._small_aes

    def open_lone(self, wire: Received, lone: Lone) -> bool:
        """Open a receive of one datagram, the whole first group of a record, where it lies; say whether it is good."""
        window = self._window
        counter = _SECOND.unpack_from(wire.octets)[0] >> 16
        is_next = counter == window.highest + 1
        if counter >= MAX_COUNTER or not (is_next or window.is_fresh(counter)):
            self.drops[VpnDrop.REPLAYED] += 1
            return False
        if lone.fails(*lone.arguments):
            self.drops[VpnDrop.UNSEAL] += 1
            return False
        self.last, losses = counter, self.losses
        if not is_next:
            window.accept(counter)
            losses.note(counter, 1, 1)
            return True
        window.highest = losses.highest = counter  # as in open_alike
        losses.opened += 1
        losses.datagrams += 1
        return True

    def open_packets(self, wire: Received, span: Span) -> list[memoryview]:
        """Return the frames in datagrams of which `count_alone` says that each is a whole group, where they lie."""
        frames: list[memoryview] = []
        for place in range(span.first, span.end):
            start = place * wire.size
            end = start + (wire.size if place < span.end - 1 else span.tail)
            try:
                unbundle(self._open_alone(wire.octets, start, end), frames)
            except InvalidTag:
                self.drops[VpnDrop.UNSEAL] += 1
            except Refused as refused:
                self.drops[refused.drop] += 1
        return frames

    def _open(self, run: Run, out: memoryview, frames: list[memoryview]) -> None:
        """Append the frames of a run; those before a fault are good. Raises Refused."""
        kind = run.head.kind & KIND
        shorter = run.last_room
        if shorter < TAG:
            raise Refused(VpnDrop.TRUNCATED)
        if run.counter + run.groups > MAX_COUNTER:
            raise Refused(VpnDrop.REPLAYED)
        if kind == SUPER:
            self._open_super(run, shorter - TAG, out, frames)
            return
        self._open_group(run, 0, out)
        self._accept(run, 0, 1)
        if kind == PACKETS:
            unbundle(out[: shorter - TAG], frames)
        elif kind == REPORT:
            self.report = read_report(out[: shorter - TAG])
        elif kind == SIDE:
            self.sides.append(bytes(out[: shorter - TAG]))
        else:
            raise Refused(VpnDrop.MALFORMED)

    def _open_super(self, run: Run, last_size: int, out: memoryview, frames: list[memoryview]) -> None:
        """Open a run in reverse order. Raises Refused (malformed)."""
        stride, plain, end = run.head.stride, run.room - TAG, run.groups
        has_gaps = end > 1 and stride > plain  # what lay in the buffer before, another peer's, would fill them
        if has_gaps or (end - 1) * stride + run.room > 2 * MAX_GROUP:
            raise Refused(VpnDrop.MALFORMED)
        try:
            for i in range(end - 1, -1, -1):
                self._open_group(run, i, out[i * stride :])
        except Refused:
            self._open_parts(run, last_size, out, frames)
        else:
            frames.append(self._finish(run, (0, end), last_size, out))
            self._shapes.learn(run)

    def _open_parts(self, run: Run, last_size: int, out: memoryview, frames: list[memoryview]) -> None:
        """Open a run in which groups are refused: it falls into parts between them, each mended. Raises Refused.

        A refused group has spoilt the headers of the one behind it, which is therefore opened once more; and what
        comes before it may lie over its end, so that the part behind it is kept elsewhere.
        """
        stride, plain, end = run.head.stride, run.room - TAG, run.groups
        for i in range(run.groups - 1, -1, -1):
            try:
                self._open_group(run, i, out[i * stride :])
            except Refused as refused:
                self.drops[refused.drop] += 1
                if i + 1 < end:
                    self._decrypt(run, i + 1, out[(i + 1) * stride :])
                    part = self._finish(run, (i + 1, end), last_size if end == run.groups else plain, out)
                    frames.append(memoryview(bytearray(part)))
                end = i
        if end:
            frames.append(self._finish(run, (0, end), last_size if end == run.groups else plain, out))

    def _finish(self, run: Run, part: tuple[int, int], last_size: int, out: memoryview) -> memoryview:
        """Return the super-packet, or the part of one, that the groups `first` to before `end` of a run are.

        A whole one is as the peer sealed it; a part is mended. Raises Refused (malformed).
        """
        first, end = part
        self._accept(run, first, end)
        stride = run.head.stride
        frame = out[first * stride : (end - 1) * stride + last_size]
        if len(frame) <= VNET_HEADER:
            raise Refused(VpnDrop.MALFORMED)
        is_last = run.is_last and end == run.groups
        offset = (run.head.group + first) * stride
        if offset or not is_last:
            header = check_super(frame)
            if not is_last:  # behind its slice is what fills the group
                frame = frame[: header + (end - first) * stride]
            mend(frame, offset, is_last=is_last)
        return frame

    def _open_group(self, run: Run, i: int, out: memoryview) -> None:
        """Open one group unless it came before. Raises Refused (replayed, unseal)."""
        if not self._window.is_fresh(run.counter + i):
            raise Refused(VpnDrop.REPLAYED)
        self._decrypt(run, i, out)

    def _decrypt(self, run: Run, i: int, out: memoryview) -> None:
        """Decrypt. When it raises Refused, `out` holds bytes that nobody may see."""
        sealed = run.sealed(i)
        nonce = run.nonce + i * run.nonce_step
        try:
            self.decrypt_of(run.head.kind)(run.headers[nonce : nonce + 12], sealed, None, out[: len(sealed) - TAG])
        except InvalidTag:
            raise Refused(VpnDrop.UNSEAL) from None

    def _accept(self, run: Run, first: int, end: int) -> None:
        """Remember authentic groups."""
        counter = run.counter
        self.last = counter + end - 1
        self._window.accept_all(counter + first, end - first)
        self.losses.note(counter + end - 1, end - first, run.datagrams * (end - first) // run.groups)
