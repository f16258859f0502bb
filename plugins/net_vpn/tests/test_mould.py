"""The short way to seal a super-packet that is cut like one before: what it makes is what the long way makes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_net_vpn.batch import Batch
from kairos_net_vpn.drops import Refused
from kairos_net_vpn.mould import MOST
from kairos_net_vpn.records import Sealer
from kairos_net_vpn.vnet import GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, HEADER, MAX_FRAME, NEEDS_CSUM, TCP, UDP

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
    """Seals frames in a slot and buffers of its own, as the packet path does."""

    def __init__(self, counter: int = 0) -> None:
        self.sealer = Sealer(KEY, 0xAABBCCDD, chacha=False)
        self.sealer.counter = counter
        self._slot = memoryview(bytearray(MAX_FRAME + (1 << 16)))

    def seal(self, frame: bytes, size: int, members: int) -> bytes:
        batch = Batch(size)
        self._slot[: len(frame)] = frame
        return b"".join(batch.filled(self.sealer.seal_super(self._slot, len(frame), batch, members)))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(FRAMES, st.sampled_from([1300, 1472]), st.sampled_from([1, 8, 64])), min_size=1, max_size=12),
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


def test_a_record_with_more_datagrams_than_there_are_buffers_for_is_refused_each_time() -> None:
    desk, frame, slot = Desk(), tcp(58000), memoryview(bytearray(MAX_FRAME + (1 << 16)))
    slot[: len(frame)] = frame
    assert desk.seal(frame, 1472, 64)
    for _ in range(2):
        before = desk.sealer.counter
        with pytest.raises(Refused):
            desk.sealer.seal_super(slot, len(frame), Batch(1472, 16), 64)
        assert desk.sealer.counter == before


def test_moulds_are_kept_of_a_few_sizes_only() -> None:
    desk = Desk()
    for length in range(5000, 5000 + 3 * MOST):
        desk.seal(tcp(length), 1472, 8)
        assert len(desk.sealer._moulds) <= MOST
