"""The MSS of flows that cross the tunnel."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.mss import clamp
from kairos_net_vpn.vnet import NEEDS_CSUM, fold

OPTION = b"\2\4"


def segment(options: bytes, *, flags: int = 0x02, version: int = 4, partial: bool = False) -> bytearray:
    """Return a frame with a TCP segment, its checksum right."""
    options = options.ljust(-(-len(options) // 4) * 4, b"\0")
    tcp = bytearray(b"\x04\xd2\x00\x50" + bytes(8) + bytes([(20 + len(options)) // 4 << 4, flags]) + bytes(6) + options)
    if version == 4:
        source, destination = (ip_address(text).packed for text in ("10.9.0.1", "10.8.0.1"))
        header = b"\x45\0" + (20 + len(tcp)).to_bytes(2) + b"\0\0\0\0\x40\x06\0\0" + source + destination
    else:
        source, destination = (ip_address(text).packed for text in ("fd00::1", "fd00::2"))
        header = b"\x60\0\0\0" + len(tcp).to_bytes(2) + b"\x06\x40" + source + destination
    pseudo = source + destination + len(tcp).to_bytes(4) + (6).to_bytes(4)
    tcp[16:18] = fold(pseudo).to_bytes(2) if partial else (fold(pseudo + tcp) ^ 0xFFFF).to_bytes(2)
    virtio = bytes([NEEDS_CSUM * partial]) + bytes(9)
    return bytearray(virtio + header + tcp)


def is_sound(frame: bytearray) -> bool:
    """Say whether the checksum is right."""
    at, addresses = (30, frame[22:30]) if frame[10] >> 4 == 4 else (50, frame[18:50])
    return fold(bytes(addresses) + (len(frame) - at).to_bytes(4) + (6).to_bytes(4) + bytes(frame[at:])) == 0xFFFF


@pytest.mark.parametrize(("version", "limit"), [(4, 1380), (6, 1360)])
@pytest.mark.parametrize("before", [b"", b"\1", b"\1\1", b"\3\3\7", b"\4\2"])
def test_a_syn_allows_no_more_than_fits(version: int, limit: int, before: bytes) -> None:
    for flags in (0x02, 0x12):
        frame = segment(before + OPTION + (1460).to_bytes(2), flags=flags, version=version)
        assert is_sound(frame)
        clamp(memoryview(frame), 1420)
        assert before + OPTION + limit.to_bytes(2) in frame
        assert is_sound(frame)


def test_a_partial_checksum_stays() -> None:
    frame = segment(OPTION + (1460).to_bytes(2), partial=True)
    checksum = frame[46:48]
    clamp(memoryview(frame), 1420)
    assert frame[-2:] == (1380).to_bytes(2)
    assert frame[46:48] == checksum


@pytest.mark.parametrize(
    "frame",
    [
        segment(OPTION + (1380).to_bytes(2)),
        segment(OPTION + (536).to_bytes(2)),
        segment(OPTION + (1460).to_bytes(2), flags=0x10),
        segment(b""),
        segment(b"\0" + OPTION + (1460).to_bytes(2)),
        segment(b"\7\0" + OPTION + (1460).to_bytes(2)),
        segment(b"\2\3\5\xb4"),
    ],
)
def test_all_else_is_left_as_it_is(frame: bytearray) -> None:
    before = bytes(frame)
    clamp(memoryview(frame), 1420)
    assert frame == before


@given(st.binary(min_size=40, max_size=120), st.sampled_from([4, 6]))
def test_any_packet_is_survived(body: bytes, version: int) -> None:
    packet = bytearray(body)
    packet[0] = version << 4 | packet[0] & 15
    packet[9 if version == 4 else 6] = 6
    frame = bytearray(10) + packet
    size = len(frame)
    clamp(memoryview(frame), 1420)
    assert len(frame) == size


def test_flows_of_networks_behind_nodes_are_clamped_on_the_way_out_and_in(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    bob.forwards = ("10.8.0.0/24",)
    bob.restart()
    alice.meet(bob, routes=(ip_network("10.8.0.0/24"),))
    bob.meet(alice, standby=(ip_network("10.9.0.0/24"),))
    wire.run(1.5)
    for clamped in (
        lambda frame: alice.tunnel.carrier(frame, wire.now),
        lambda frame: bob.tunnel.admit(frame, bob.knows(alice).peer),
    ):
        frame = segment(OPTION + (1460).to_bytes(2))
        assert clamped(memoryview(frame)) is not None
        assert frame[-2:] == (1380).to_bytes(2)
