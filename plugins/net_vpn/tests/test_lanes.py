"""The short ways of what is known already: what they make is what the long ways make, and they end in time."""

from __future__ import annotations

import struct
import sys
from importlib import import_module
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_net_vpn.datagrams import Buffer
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.inbound import Inbound
from kairos_net_vpn.lanes import MOST, Arrival, Key, key_of
from kairos_net_vpn.mould import Mould
from kairos_net_vpn.outbound import Outbound
from kairos_net_vpn.records import Sealer
from kairos_net_vpn.slot import ROOM, Slot
from kairos_net_vpn.spec import Timing
from kairos_net_vpn.vnet import GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, HEADER, NEEDS_CSUM, TCP, UDP

sys.path.insert(0, str(Path(__file__).parent))
stand_ins: Any = import_module("stand_ins")
Cable, Tun = stand_ins.Cable, stand_ins.Tun
KEY = bytes(range(32))


def tcp(length: int, options: int = 0) -> bytes:
    """Return a super-packet of TCP over IPv4, with this much payload and bytes of options."""
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 40 + options + length, 0, 0x4000, 64, TCP, 0, 1, 2)
    header = bytes(12) + bytes([(5 + options // 4) << 4, 0x10]) + bytes(6 + options)
    return HEADER.pack(NEEDS_CSUM, GSO_TCPV4, 0, 1360, 20, 16) + ip + header + b"T" * length


def udp(length: int, gso_size: int = 100) -> bytes:
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 28 + length, 0, 0x4000, 64, UDP, 0, 1, 2)
    return HEADER.pack(NEEDS_CSUM, GSO_UDP_L4, 0, gso_size, 20, 6) + ip + bytes(8) + b"U" * length


def tcp6(length: int, options: int = 0) -> bytes:
    ip = b"\x60\0\0\0" + (20 + options + length).to_bytes(2) + bytes([TCP, 64]) + bytes(32)
    header = bytes(12) + bytes([(5 + options // 4) << 4, 0x10]) + bytes(6 + options)
    return HEADER.pack(NEEDS_CSUM, GSO_TCPV6, 0, 1340, 40, 16) + ip + header + b"6" * length


FRAMES = st.one_of(
    st.builds(tcp, st.sampled_from([100, 5000, 58000]), st.sampled_from([0, 12, 20])),
    st.builds(udp, st.sampled_from([300, 6400, 58000]), st.sampled_from([99, 100, 1400])),
    st.builds(tcp6, st.sampled_from([100, 5000, 58000]), st.sampled_from([0, 12])),
)


class Desk:
    """Seals frames in a slot and buffers of its own, with moulds that it has already, as the packet path does."""

    def __init__(self, counter: int = 0) -> None:
        self.sealer = Sealer(KEY, 0xAABBCCDD, chacha=False)
        self.sealer.counter = counter
        self._slot, self._spare = Slot(), Buffer(1 << 18)
        self._moulds: dict[tuple[Key, int, int], Mould] = {}

    def seal(self, frame: bytes, size: int, members: int) -> bytes:
        octets, length = self._slot.octets, len(frame)
        octets[ROOM : ROOM + length] = frame
        key = (key_of(octets, ROOM, length), size, members)
        mould = self._moulds.get(key) or self.sealer.mould(octets[ROOM : ROOM + length], size, members)
        if frame[10] == 0x45:
            self._moulds[key] = mould
        return bytes(self.sealer.seal_super(self._slot, length, mould, self._spare))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(FRAMES, st.sampled_from([1304, 1472]), st.sampled_from([1, 8, 64])), min_size=1, max_size=12),
    st.sampled_from([0, 0xFFFF_FFF0]),
)
def test_whatever_came_before_a_record_is_the_same(wishes: list[tuple[bytes, int, int]], counter: int) -> None:
    desk = Desk(counter)
    for _ in range(2):
        for frame, size, members in wishes:
            fresh = Desk(desk.sealer.counter)
            assert desk.seal(frame, size, members) == fresh.seal(frame, size, members)
            assert desk.sealer.counter == fresh.sealer.counter


def test_what_is_no_super_packet_is_refused_after_one_that_looks_like_it() -> None:
    desk, good = Desk(), tcp(5000)
    desk.seal(good, 1472, 8)
    for place, value in ((0, 0), (1, 9), (4, 0), (6, 21), (19, UDP), (42, 0x40)):
        altered = bytearray(good)
        altered[place : place + 2] = bytes([value, 0]) if place == 4 else bytes([value, altered[place + 1]])
        with pytest.raises(Refused):
            desk.seal(bytes(altered), 1472, 8)


def test_a_record_with_too_many_datagrams_is_refused_each_time() -> None:
    desk, frame = Desk(), udp(60000, 600)  # one packet in each datagram, with headers: 101 of 720 bytes, 200 of 700
    assert desk.seal(frame, 720, 1)
    for _ in range(2):
        before = desk.sealer.counter
        with pytest.raises(Refused):
            desk.seal(udp(60000, 300), 400, 1)
        assert desk.sealer.counter == before


class Stream:
    """Super-packets from one node to another, whose tunnels are real and whose system calls are not."""

    def __init__(self, one: Any, other: Any) -> None:
        self.one, self.other = one, other
        for here, there in ((one, other), (other, one)):
            peer = here.knows(there).peer
            peer.records, peer.datagram, peer.members.count = True, 1472, 64
        self.device, self.kernel, self.cable, self.answers = Tun(), Tun(), Cable(), Cable()
        self.outbound: Any = Outbound(one.tunnel, self.device, self.cable)  # type: ignore[arg-type]
        back: Any = Outbound(other.tunnel, Tun(), self.answers)  # type: ignore[arg-type]
        self.inbound: Any = Inbound(other.tunnel, self.kernel, self.answers, back)  # type: ignore[arg-type]

    def frame(self, number: int, length: int = 58000) -> bytes:
        """Return a super-packet from one node to the other that is told from others by its number."""
        addresses = ip_address(self.one.address).packed + ip_address(self.other.address).packed
        frame = bytearray(tcp(length))
        frame[22:30] = addresses
        frame[-1] = number
        return bytes(frame)

    def send(self, number: int, length: int = 58000) -> Any:
        """Send one; return where to, None when it was not."""
        self.device.frames = [self.frame(number, length)]
        self.cable.sent.clear()
        self.outbound.read(self.one.wire.now)
        return self.cable.sent[0][2] if self.cable.sent else None

    def carry(self, number: int, length: int = 58000, source: Any = None) -> bool:
        """Carry one to the other node; say whether it came out as it was."""
        self.send(number, length)
        self.kernel.written.clear()
        for wire, size, _ in self.cable.sent:
            self.deliver(wire, size, source)
        return self.kernel.written == [self.frame(number, length)]

    def deliver(self, wire: bytes | bytearray | memoryview, size: int, source: Any = None) -> None:
        """Let the other node receive datagrams of one size."""
        self.answers.coming = [(bytes(wire), size, source or self.one.endpoint)]
        self.inbound.read(self.other.wire.now)

    @property
    def arrivals(self) -> dict[Any, Arrival]:
        return self.other.tunnel.lanes.arrivals


@pytest.fixture
def stream(pair: Any) -> Stream:
    stream = Stream(*pair)
    for number in range(4):
        assert stream.carry(number)
    return stream


def test_a_stream_is_known_at_both_ends(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(stream.one.tunnel.lanes.courses) == 1
    assert len(stream.arrivals) == 1
    monkeypatch.setattr(stream.outbound, "_find_course", None)
    monkeypatch.setattr(stream.inbound, "_take_many", None)
    monkeypatch.setattr(stream.inbound, "_hand_over", None)
    for number in range(40):
        assert stream.carry(number)
    peer = stream.other.knows(stream.one).peer
    assert peer.received > 44 * 58000
    assert peer.path.heard_at == stream.other.wire.now
    assert not stream.one.tunnel.drops + stream.other.tunnel.drops


def test_a_stream_is_known_behind_a_gap_and_what_comes_late_is_taken_once(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.send(1)
    wire, size, _ = stream.cable.sent[0]
    with monkeypatch.context() as patch:
        patch.setattr(stream.inbound, "_take_many", None)
        assert stream.carry(2)
        assert stream.carry(3)
    for arrived, drops in (([stream.frame(1)], {}), ([], {VpnDrop.REPLAYED: 1})):
        stream.kernel.written.clear()
        stream.deliver(wire, size)
        assert stream.kernel.written == arrived
        assert stream.other.tunnel.drops == drops


def test_a_read_says_whether_it_found_a_part_of_a_stream(stream: Stream) -> None:
    stream.send(1)
    assert stream.outbound.is_streaming
    stream.outbound.read(stream.one.wire.now)  # nothing is left
    assert not stream.outbound.is_streaming


def test_of_sizes_few_are_known(stream: Stream) -> None:
    for length in range(50000, 50000 + 3 * MOST):
        assert stream.carry(1, length)
        assert stream.carry(2, length)
        assert 0 < len(stream.one.tunnel.lanes.courses) <= MOST
        assert len(stream.arrivals) <= MOST


def test_a_course_follows_endpoint_and_sizes(stream: Stream) -> None:
    peer = stream.one.knows(stream.other).peer
    peer.endpoint = ("198.51.100.7", 7000)
    assert stream.send(1) == peer.endpoint
    peer.datagram = 1304
    assert stream.carry(2)
    assert stream.cable.sent[0][1] == 1304
    peer.members.count = 8
    assert stream.carry(3)
    assert {wire[5] for wire, _, _ in stream.cable.sent} == {8}
    peer.endpoint = None
    assert stream.send(4) is None
    assert stream.one.tunnel.drops == {VpnDrop.NO_ENDPOINT: 1}


def test_nothing_is_sent_to_who_has_lost_the_address(stream: Stream) -> None:
    peer = stream.one.knows(stream.other).peer
    stream.one.tunnel.table.route(peer, frozenset())
    assert stream.send(1) is None
    assert stream.one.tunnel.drops == {VpnDrop.NO_ROUTE: 1}


def test_nothing_is_taken_from_who_has_lost_the_address(stream: Stream) -> None:
    stream.other.tunnel.table.route(stream.other.knows(stream.one).peer, frozenset())
    assert not stream.carry(1)
    assert stream.kernel.written == []
    assert stream.other.tunnel.drops == {VpnDrop.SOURCE_MISMATCH: 1}


def test_a_peer_that_moves_is_followed(stream: Stream) -> None:
    moved = ("198.51.100.9", 7000)
    assert stream.carry(1, source=moved)
    assert stream.other.knows(stream.one).peer.endpoint == moved


def test_a_session_that_is_too_old_carries_nothing(stream: Stream) -> None:
    wire = stream.one.wire
    session = stream.one.knows(stream.other).current
    wire.now = session.born + Timing().reject_after
    assert stream.send(1) is None
    wire.now = session.born + Timing().reject_after - 0.001
    stream.send(2)
    (sent,) = stream.cable.sent
    wire.now += 0.002
    stream.kernel.written.clear()
    stream.deliver(sent[0], sent[1])
    assert stream.kernel.written == []
    assert stream.other.tunnel.drops == {VpnDrop.EXPIRED: 1}


def test_who_initiated_asks_for_a_new_session_in_time(stream: Stream) -> None:
    for one, other in ((stream.one, stream.other), (stream.other, stream.one)):
        if one.knows(other).current.is_initiator:
            way = Stream(one, other)
            one.wire.now = one.knows(other).current.born + Timing().rekey_after + 0.001
            one.tunnel.take_outbox()
            way.send(1)
            assert [datagram[0] for datagram, _ in one.tunnel.take_outbox()] == [1]


@pytest.mark.parametrize("place", [0, 4, 5, 6, 7, 8, 10, 16, 100, 1472, 1480, 30000, -1])
def test_an_altered_record_is_refused_and_the_next_is_taken(stream: Stream, place: int) -> None:
    stream.send(1)
    (sent,) = stream.cable.sent
    wire = bytearray(sent[0])
    wire[place] ^= 1
    stream.kernel.written.clear()
    stream.deliver(wire, sent[1])
    assert stream.kernel.written == []
    assert stream.other.tunnel.drops.total() + len(stream.other.knows(stream.one).current.opener.waiting) > 0
    assert stream.carry(2) or place >= 1472  # there what comes next may wait for the rest of the group


def test_a_record_that_comes_twice_is_taken_once(stream: Stream) -> None:
    assert stream.carry(1)
    (sent,) = stream.cable.sent
    stream.kernel.written.clear()
    stream.deliver(sent[0], sent[1])
    assert stream.kernel.written == []
    assert stream.other.tunnel.drops[VpnDrop.REPLAYED] > 0


def test_what_the_peer_may_not_send_is_refused_after_what_it_may(stream: Stream) -> None:
    for place, value in ((22, 77), (29, 99), (19, UDP), (13, 1), (42, 0x60)):
        frame = bytearray(stream.frame(1))
        frame[place] = value
        session = stream.one.knows(stream.other).current
        slot = Slot()
        slot.octets[ROOM : ROOM + len(frame)] = frame
        mould = session.sealer.mould(memoryview(bytearray(stream.frame(1))), 1472, 64)
        wire = session.sealer.seal_super(slot, len(frame), mould, Buffer(1 << 18))
        stream.kernel.written.clear()
        stream.deliver(wire, 1472)
        if place == 42:  # a longer header, less payload
            assert stream.kernel.written == [bytes(frame)]
        else:
            assert bytes(frame) not in stream.kernel.written
