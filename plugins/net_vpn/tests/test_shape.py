"""The short way to open a super-packet that is cut like one before: it takes what `open` takes, and nothing else."""

from __future__ import annotations

import struct
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_net_vpn.datagrams import HEADER_SIZE, Buffer, Received
from kairos_net_vpn.opening import OUT_SIZE, Opener
from kairos_net_vpn.parts import Buffers
from kairos_net_vpn.records import Sealer
from kairos_net_vpn.runs import Span
from kairos_net_vpn.shape import MOST
from kairos_net_vpn.slot import ROOM, Slot
from kairos_net_vpn.small import TAG
from kairos_net_vpn.vnet import GSO_TCPV4, HEADER, NEEDS_CSUM, TCP

KEY = bytes(range(32))
SIZE = 1472


def tcp(length: int, fill: int = 7) -> bytes:
    """Return a super-packet of TCP with this much payload."""
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 40 + length, 0, 0x4000, 64, TCP, 0, 1, 2)
    header = HEADER.pack(NEEDS_CSUM, GSO_TCPV4, 40, 1360, 20, 16)
    return header + ip + bytes(12) + b"\x50\x10" + bytes(6) + bytes([fill]) * length


class Ends:
    """A sealer and what opens its records, as the socket would bring them."""

    def __init__(self, *, chacha: bool = False) -> None:
        self.sealer = Sealer(KEY, 0xAABBCCDD, chacha=chacha)
        self.opener = Opener(KEY, Counter(), Buffers())
        self._out = memoryview(bytearray(OUT_SIZE))

    def seal(self, frame: bytes, members: int = 8) -> bytes:
        """Return the datagrams of a frame, one behind the other."""
        slot = Slot()
        slot.octets[ROOM : ROOM + len(frame)] = frame
        mould = self.sealer.mould(slot.octets[ROOM : ROOM + len(frame)], SIZE, members)
        return bytes(self.sealer.seal_super(slot, len(frame), mould, Buffer(1 << 18)))

    def usual(self, wire: bytes) -> bytes | None:
        opened = self.opener.open_usual(Received.copy(wire, SIZE), self._out)
        return None if opened is None else bytes(opened[0])

    def open(self, wire: bytes) -> list[bytes]:
        return self._open(Received.copy(wire, SIZE))

    def both(self, wire: bytes) -> list[bytes]:
        """Return what comes out when the short way is tried first, and the long one then, on the same bytes."""
        received = Received.copy(wire, SIZE)
        opened = self.opener.open_usual(received, self._out)
        if opened is not None:
            return [bytes(opened[0])]
        parts = self.opener.take_piece(received)
        if parts is None:
            return self._open(received)
        frame = self.opener.open_whole(parts) if parts.is_whole else None
        return [] if frame is None else [bytes(frame)]

    def _open(self, wire: Received) -> list[bytes]:
        whole = wire.tail >= HEADER_SIZE  # else there is no header: no record, and never handed to the opener
        span = Span(0, wire.count, wire.tail) if whole else Span(0, wire.count - 1, SIZE)
        return [bytes(frame) for frame in self.opener.open(wire, span, self._out)]


@pytest.mark.parametrize("chacha", [False, True])
@pytest.mark.parametrize("members", [1, 2, 8, 64])
def test_the_next_record_of_a_stream_takes_the_short_way(chacha: bool, members: int) -> None:
    ends = Ends(chacha=chacha)
    ends.sealer.counter = begin = 0xFFFF_FFF0  # so that all digits of the number change
    first = ends.seal(tcp(58000), members)
    assert ends.usual(first) is None
    assert ends.open(first) == [tcp(58000)]
    for fill in range(40):
        assert ends.usual(ends.seal(tcp(58000, fill), members)) == tcp(58000, fill)
    assert ends.opener.losses.opened == ends.sealer.counter - begin
    assert not ends.opener.drops


def test_a_shape_knows_records_that_end_a_little_sooner_or_later() -> None:
    ends = Ends()
    ends.open(ends.seal(tcp(58000)))
    for length in (57990, 58001):
        assert ends.usual(ends.seal(tcp(length))) == tcp(length)


def test_what_came_before_is_refused_and_counted_where_all_is_counted() -> None:
    ends = Ends()
    ends.open(ends.seal(tcp(58000)))
    wire = ends.seal(tcp(58000))
    assert ends.usual(wire) is not None
    assert ends.usual(wire) is None
    assert ends.open(wire) == []
    assert ends.opener.drops.total() > 0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_is_altered_takes_the_long_way_and_comes_to_the_same(data: st.DataObject) -> None:
    """An altered record leaves both openers, of which one tries the short way first, in the same state."""
    short, long = Ends(), Ends()
    length, members = data.draw(st.sampled_from([5000, 20000, 58000])), data.draw(st.sampled_from([2, 8, 64]))
    first, wire = short.seal(tcp(length), members), bytearray(short.seal(tcp(length), members))
    assert short.open(first) == long.open(first) == [tcp(length)]
    count = -(-len(wire) // SIZE)
    datagram = data.draw(st.integers(0, count - 1))
    begin, end = datagram * SIZE, min(len(wire), (datagram + 1) * SIZE)
    match data.draw(st.sampled_from(["flip", "header", "drop", "cut", "swap"])):
        case "flip":
            wire[data.draw(st.integers(begin, end - 1))] ^= 1 << data.draw(st.integers(0, 7))
        case "header":
            wire[begin + data.draw(st.integers(0, HEADER_SIZE - 1))] ^= 1 << data.draw(st.integers(0, 7))
        case "drop":
            del wire[begin:end]
        case "cut":
            del wire[len(wire) - data.draw(st.integers(1, 200)) :]
        case "swap":
            wire = wire[begin:end] + wire[:begin] + wire[end:] if end - begin == SIZE and datagram else wire[SIZE:]
    assert short.both(bytes(wire)) == long.open(bytes(wire))
    assert short.opener.drops == long.opener.drops
    assert short.opener.losses.take(1.0) == long.opener.losses.take(1.0)
    following = short.seal(tcp(length), members)
    assert [short.usual(following)] == long.open(following) == [tcp(length)]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_record_that_lacks_some_datagrams_is_kept_and_completed_as_on_the_long_way(data: st.DataObject) -> None:
    """The long way gets the same datagrams in receives that no short way knows: the last one first, alone."""
    short, long = Ends(), Ends()
    length = data.draw(st.sampled_from([5000, 20000, 58000]))
    first = short.seal(tcp(length), 64)
    assert short.both(first) == long.open(first) == [tcp(length)]
    second = short.seal(tcp(length), 64)
    assert short.both(second) == long.open(second) == [tcp(length)]
    wire = short.seal(tcp(length, 3), 64)
    sent = [wire[at : at + SIZE] for at in range(0, len(wire), SIZE)]
    lost = data.draw(st.sets(st.integers(0, len(sent) - 1), min_size=1, max_size=3))
    came = [each for place, each in enumerate(sent) if place not in lost]
    if data.draw(st.booleans()) and len(came) > 1:  # in another order
        came.insert(0, came.pop(data.draw(st.integers(1, len(came) - 1))))
    runs = [came] if all(len(each) == SIZE for each in came[:-1]) else [[each] for each in came]
    frames = [frame for run in runs for frame in short.both(b"".join(run))]
    other = [frame for each in came for frame in long.open(each)]
    assert frames == other == []
    for ends in (short, long):
        kept = {name: parts.missing(is_passed=True) for name, parts in ends.opener.waiting.items()}
        assert kept == ({sent[0][:16]: sorted(lost)} if came else {})
    others = data.draw(st.lists(st.sampled_from(sent), max_size=4))
    again = data.draw(st.permutations([sent[place] for place in sorted(lost)] + others))
    assert [frame for each in again for frame in short.both(each)] == [tcp(length, 3)]
    assert [frame for each in reversed(again) for frame in long.open(each)] == [tcp(length, 3)]
    assert not short.opener.waiting
    assert short.opener.losses.take(1.0)[0] == 0


@pytest.mark.parametrize("runt", range(HEADER_SIZE))
def test_a_record_with_a_runt_behind_it_is_taken_and_remembered(runt: int) -> None:
    ends = Ends()
    frame = tcp(8 * (SIZE - HEADER_SIZE) - TAG - 50)  # a record that ends with a whole datagram
    for _ in range(2):
        wire = ends.seal(frame)
        assert len(wire) == 8 * SIZE
        assert ends.open(wire + bytes(runt)) == [frame]
    assert ends.usual(ends.seal(frame)) == frame


def test_shapes_are_remembered_of_a_few_sizes_only() -> None:
    ends = Ends()
    for count in range(2, 2 * MOST):
        ends.open(ends.seal(tcp(count * (SIZE - HEADER_SIZE) - 200)))
    assert 0 < len(ends.opener._shapes) <= MOST
