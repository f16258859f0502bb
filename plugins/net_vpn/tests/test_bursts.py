"""Small packets that wait at the same moment: how a burst is cut into records, and what becomes of it."""

from __future__ import annotations

import struct
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_net_vpn.bundle import MOST_MERGED, bundle, bundle_few, find_runs, merge, take_bulk
from kairos_net_vpn.datagrams import HEADER_SIZE, Buffer, Received
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.inbound import Inbound
from kairos_net_vpn.opening import Opener
from kairos_net_vpn.outbound import Outbound
from kairos_net_vpn.parts import Buffers
from kairos_net_vpn.records import Sealer
from kairos_net_vpn.runs import Span, count_alone
from kairos_net_vpn.small import TAG
from kairos_net_vpn.vnet import GSO_NONE, GSO_UDP_L4, HEADER, NEEDS_CSUM, TCP, UDP, check_super, segment

sys.path.insert(0, str(Path(__file__).parent))
stand_ins: Any = import_module("stand_ins")
Cable, Tun = stand_ins.Cable, stand_ins.Tun
KEY = bytes(range(32))
SIZE = 1472
ROOM = SIZE - HEADER_SIZE - TAG


def udp(payload: bytes, port: int = 53, addresses: bytes = bytes((10, 1, 0, 1, 10, 1, 0, 2))) -> bytes:
    """Return a small frame as the kernel hands it over."""
    ip = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(payload), 0, 0x4000, 64, UDP, 0) + addresses)
    ip[10:12] = (0xFFFF - sum(struct.unpack("!10H", ip)) % 0xFFFF).to_bytes(2)
    pseudo = sum(struct.unpack("!4H", addresses)) + UDP + 8 + len(payload)
    header = struct.pack("!HHHH", 1000, port, 8 + len(payload), pseudo % 0xFFFF)
    return HEADER.pack(NEEDS_CSUM, GSO_NONE, 0, 0, 20, 6) + bytes(ip) + header + payload


def views(frames: list[bytes]) -> list[memoryview]:
    return [memoryview(bytearray(frame)) for frame in frames]


def payloads(frame: bytes | memoryview) -> list[bytes]:
    return [bytes(packet[28:]) for packet in segment(memoryview(bytearray(frame)))]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 7)), min_size=1, max_size=64))
def test_all_bundles_of_a_burst_but_the_last_are_as_large_or_leave_much_room(wishes: list[tuple[int, int]]) -> None:
    frames = [udp(bytes([i]) * size, port) for i, (size, port) in enumerate(wishes)]
    bundles = list(bundle(find_runs(views(frames)), ROOM))
    assert all(len(each) == ROOM or len(each) <= ROOM * 3 / 4 for each in bundles[:-1])
    opener = Opener(KEY, Counter(), Buffers())
    arrived: list[bytes] = []
    for datagram in Sealer(KEY, 0xAABBCCDD, chacha=False).seal_bundles(bundles, SIZE, Buffer(1 << 18)):
        alone = Received.copy(bytes(datagram), SIZE)
        for frame in opener.open_packets(alone, Span(0, 1, alone.tail)):
            arrived += payloads(frame)
    assert Counter(arrived) == Counter(payload for frame in frames for payload in payloads(frame))
    assert not opener.drops


def sealed(bundles: list[bytes]) -> bytes:
    """Return the datagrams of bundles, all of them full, as one receive brings them."""
    sealer = Sealer(KEY, 0xAABBCCDD, chacha=False)
    return b"".join(sealer.seal_bundles([each.ljust(ROOM, b"\0") for each in bundles], SIZE, Buffer(1 << 18)))


def test_a_burst_of_full_datagrams_is_opened_together_up_to_one_that_is_refused() -> None:
    opener = Opener(KEY, Counter(), Buffers())
    bundles = list(bundle(find_runs(views([udp(bytes(700), port) for port in range(12)])), ROOM))
    wire = bytearray(sealed(bundles))
    count = len(bundles)
    assert count_alone(Received.copy(wire, SIZE), 0, count) == count
    assert count_alone(Received.copy(wire + bytes(SIZE), SIZE), 0, count + 1) == count  # then comes what is none
    wire[SIZE + HEADER_SIZE] ^= 1
    frames = opener.open_packets(Received.copy(wire, SIZE), Span(0, count, SIZE))
    assert len(frames) == 12 - 1
    assert opener.drops.total() == 1
    assert len(opener.open_packets(Received.copy(wire, SIZE), Span(0, count, SIZE))) == 0
    assert opener.losses.opened == count - 1


def test_frames_before_a_fault_stay_as_they_were_while_the_next_datagram_is_opened() -> None:
    opener = Opener(KEY, Counter(), Buffers())
    good, other = udp(b"good" * 9), udp(b"else" * 9)
    entry = len(good).to_bytes(2, "little")
    wire = Received.copy(sealed([entry + good + b"\xff\xff", entry + other + b"\0\0"]), SIZE)
    assert [bytes(frame) for frame in opener.open_packets(wire, Span(0, 2, SIZE))] == [good, other]
    assert opener.drops == {VpnDrop.MALFORMED: 1}


@pytest.mark.parametrize(("count", "size"), [(64, 64), (60, 1350), (200, 400)])
def test_a_flow_that_has_a_burst_for_itself_becomes_super_packets(count: int, size: int) -> None:
    frames = [udp(i.to_bytes(2) * (size // 2)) for i in range(count)]
    stray = udp(b"stray", port=7)
    pieces, others = take_bulk(find_runs(views([*frames[:9], stray, *frames[9:]])), ROOM)
    assert [bytes(frame) for run in others for frame in run] == [stray]
    merged = [memoryview(bytearray(merge(piece))) for piece in pieces]
    assert all(len(piece) <= MOST_MERGED for piece in pieces)
    for each in merged:
        assert each[1] == GSO_UDP_L4
        assert check_super(each) == 38
        assert int.from_bytes(each[12:14]) == len(each) - 10
    assert [payload for each in merged for payload in payloads(each)] == [
        i.to_bytes(2) * (size // 2) for i in range(count)
    ]


def test_flows_that_share_a_burst_are_bundled_and_so_is_what_fits_a_datagram() -> None:
    shared = find_runs(views([udp(bytes(400), port) for _ in range(20) for port in (1, 2)]))
    assert take_bulk(shared, ROOM) == ([], shared)
    few = find_runs(views([udp(bytes(64)) for _ in range(9)]))
    assert take_bulk(few, ROOM) == ([], few)
    lone = find_runs(views([udp(bytes(1400))]))
    assert take_bulk(lone, ROOM) == ([], lone)


class Way:
    """From one node's device to another's kernel."""

    def __init__(self, one: Any, other: Any) -> None:
        for here, there in ((one, other), (other, one)):
            here.knows(there).peer.records = True
            here.knows(there).peer.datagram = SIZE
        self._one, self._other = one, other
        self._device, self._cable, self._kernel = Tun(), Cable(), Tun()
        self.ways_given = 0
        outbound: Any = Outbound(one.tunnel, self._device, self._cable, self._give_way)  # type: ignore[arg-type]
        answers: Any = Outbound(other.tunnel, self._kernel, Cable())  # type: ignore[arg-type]
        self.outbound = outbound
        self.inbound: Any = Inbound(other.tunnel, self._kernel, self._cable, answers)  # type: ignore[arg-type]

    def _give_way(self) -> None:
        self.ways_given += 1

    def carry(self, frames: list[bytes]) -> tuple[int, list[bytes]]:
        """Let frames wait at the device at once; return how many sends they took, and what the kernel got."""
        self.outbound._expected, self.outbound._read_at = len(frames), self._one.wire.now
        self._device.frames = list(frames)
        self.outbound.read(self._one.wire.now)
        for wire, size, _ in self._cable.sent:
            self._cable.coming = [(wire, min(size, len(wire)), self._one.endpoint)]
            self.inbound.read(self._other.wire.now)
        sends, written = len(self._cable.sent), self._kernel.written
        self._cable.sent, self._kernel.written = [], []
        return sends, written


def test_a_burst_of_one_flow_is_one_send_and_one_write(pair: Any) -> None:
    way = Way(*pair)
    for turn in range(3):
        sends, written = way.carry([udp(bytes([turn, i]) * 32) for i in range(64)])
        assert (sends, len(written)) == (1, 1)
        assert payloads(written[0]) == [bytes([turn, i]) * 32 for i in range(64)]
        assert way.ways_given == turn + 1


def test_the_processor_is_left_to_others_after_a_burst_of_one_flow_only(pair: Any) -> None:
    way = Way(*pair)
    way.carry([udp(bytes(64))])
    way.carry([udp(bytes(64)) for _ in range(9)])
    way.carry([udp(bytes(400), port) for _ in range(20) for port in (1, 2)])
    assert way.ways_given == 0


def acknowledgement(first: int = 0x45, protocol: int = TCP, host: int = 2, size: int = 0) -> memoryview:
    """Return a frame with TCP over IPv4 and `size` bytes of payload, or what the other values make of it."""
    ip = struct.pack(
        ">BBHHHBBH4s4s", first, 0, 52 + size, 7, 0x4000, 64, protocol, 0, b"\n\1\0\1", bytes((10, 1, 0, host))
    )
    return memoryview(bytearray(HEADER.pack(NEEDS_CSUM, GSO_NONE, 0, 0, 20, 16) + ip + bytes(32 + size)))


def test_a_few_acknowledgements_are_the_bundle_that_many_frames_would_be() -> None:
    frames = [acknowledgement(), acknowledgement(), acknowledgement(size=60)]
    assert [bundle_few(frames, 1440)] == list(bundle(find_runs(frames), 1440))


def test_only_tcp_for_one_host_goes_the_short_way() -> None:
    one = acknowledgement()
    for other in (acknowledgement(protocol=UDP), acknowledgement(0x60), acknowledgement(host=3), one[:30]):
        assert bundle_few([one, other], 1440) is None
    size = 2 * (len(one) + 2)
    assert bundle_few([one, one], size) is not None
    assert bundle_few([one, one], size - 1) is None
