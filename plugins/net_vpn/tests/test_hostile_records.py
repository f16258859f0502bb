"""What a hostile member, or a stranger who saw a session's name, once could do with records, and can no longer.

The member seals with true keys what no honest one would; see fuzz/victim.py for what stands around the victim.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from kairos_net_vpn import sides, vnet
from kairos_net_vpn.datagrams import HEADER_SIZE, MAX_DATAGRAMS
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.records import LAST, MAX_GROUP, PACKETS, SIDE, SUPER
from kairos_net_vpn.sides import Tale
from kairos_net_vpn.small import TAG
from kairos_net_vpn.vnet import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, PLAIN, check_super

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
victims: Any = import_module("victim")
members: Any = import_module("member")
ALICE, CAROL, Head = victims.ALICE, victims.CAROL, members.Head


def entry(frame: bytes) -> bytes:
    return len(frame).to_bytes(2, "little") + frame


def virtio(flags: int, kind: int, gso_size: int, start: int, offset: int) -> bytes:
    return vnet.HEADER.pack(flags, kind, 0, gso_size, start, offset)


def tcp(packet: Any, payload: bytes) -> bytes:
    """Return a packet of alice's for the victim, with a TCP header of 20 bytes."""
    whole = bytearray(packet("10.1.0.1", "10.1.0.9", bytes(12) + b"\x50\x10" + bytes(6) + payload))
    whole[9] = vnet.TCP
    return bytes(whole)


# -- strangers


@pytest.mark.parametrize("size", range(1, 17))
@pytest.mark.parametrize("count", [2, 64])
def test_datagrams_shorter_than_a_header_that_come_together_are_counted(size: int, count: int) -> None:
    victim = victims.Victim()
    wire = ALICE.indices[1].to_bytes(4, "little").ljust(size, b"\1")[:size] * count
    victim.receive(wire, size, ("203.0.113.1", 1))
    victim.receive(wire[:-1], size, ("203.0.113.1", 1))
    assert victim.tunnel.drops.total() == count + -(-(len(wire) - 1) // size)
    victim.check_dave()


@pytest.mark.parametrize("size", [1296, 1472, 9000, 20000, 32000])
def test_datagrams_of_any_size_are_taken(packet: Any, size: int) -> None:
    victim = victims.Victim()
    frame = entry(PLAIN + packet("10.1.0.1", "10.1.0.9", bytes(size - 64)))
    sealed = [ALICE.seal_true(1, Head(PACKETS), frame, 32700)[0] for _ in range(2)]
    victim.receive(b"".join(sealed), size, ALICE.endpoint)
    assert len(sealed[0]) == size
    assert len(victim.device.frames) == 2


def test_small_datagrams_that_come_together_cost_the_next_large_ones_nothing(packet: Any) -> None:
    victim = victims.Victim()
    small = entry(PLAIN + packet("10.1.0.1", "10.1.0.9"))
    sealed = [ALICE.seal_true(1, Head(PACKETS), small, 1456)[0] for _ in range(3)]
    victim.receive(b"".join(sealed), len(sealed[0]), ALICE.endpoint)
    large = entry(PLAIN + packet("10.1.0.3", "10.1.0.9", bytes(1400)))
    sealed = [victims.DAVE.seal_true(1, Head(PACKETS), large, 1456)[0] for _ in range(44)]
    victim.receive(b"".join(sealed), len(sealed[0]), victims.DAVE.endpoint)
    assert len(victim.device.frames) == 3 + 44
    victim.check()


# -- members


@pytest.mark.parametrize("version", [0x40, 0x45, 0x60])
@pytest.mark.parametrize("size", range(1, 20))
def test_a_packet_shorter_than_any_header_is_refused(version: int, size: int) -> None:
    victim = victims.Victim()
    frame = PLAIN + bytes([version]).ljust(size, b"\x0a")
    victim.receive_each(ALICE.seal_true(1, Head(PACKETS), entry(frame), 1456), ALICE.endpoint)
    assert victim.device.frames == []
    assert victim.tunnel.drops == {VpnDrop.NOT_IP: 1}
    victim.check_dave()


@pytest.mark.parametrize("vnet_header", [True, False])
@pytest.mark.parametrize(("start", "offset"), [(0, 12), (0, 16), (12, 0), (19, 0), (20, 1000), (0xFFFF, 0xFFFF)])
def test_no_checksum_is_written_over_the_addresses_or_behind_the_packet(
    packet: Any, vnet_header: bool, start: int, offset: int
) -> None:
    victim = victims.Victim(vnet=vnet_header)
    frame = virtio(NEEDS_CSUM, 0, 0, start, offset) + packet("10.1.0.1", "10.1.0.9")
    victim.receive_each(ALICE.seal_true(1, Head(PACKETS), entry(frame), 1456), ALICE.endpoint)
    assert victim.device.frames == []
    assert victim.tunnel.drops == {VpnDrop.MALFORMED: 1}
    assert victim.peer(ALICE).refused == 1


@pytest.mark.parametrize("kind", [2, 3, GSO_TCPV6, GSO_UDP_L4, GSO_UDP_L4 | GSO_ECN, 0x7F, 0xFF])
def test_a_super_packet_among_small_ones_is_checked_like_any_other(packet: Any, kind: int) -> None:
    victim = victims.Victim()
    right = virtio(NEEDS_CSUM, GSO_TCPV4, 10, 20, 16) + tcp(packet, bytes(40))
    wrong = right[:1] + bytes([kind]) + right[2:]
    victim.receive_each(ALICE.seal_true(1, Head(PACKETS), entry(right) + entry(wrong), 1456), ALICE.endpoint)
    assert victim.device.frames == [right]
    assert victim.tunnel.drops == {VpnDrop.MALFORMED: 1}


def test_a_super_packet_that_is_cut_to_its_length_is_checked_after_that(packet: Any) -> None:
    victim = victims.Victim()
    short = bytearray(tcp(packet, bytes(40)))
    short[2:4] = (30).to_bytes(2)
    frame = virtio(NEEDS_CSUM, GSO_TCPV4, 10, 20, 16) + short
    victim.receive_each(ALICE.seal_true(1, Head(SUPER | LAST), frame, 1456), ALICE.endpoint)
    assert victim.device.frames == []
    assert victim.tunnel.drops == {VpnDrop.MALFORMED: 1}


@pytest.mark.parametrize(("at", "byte"), [(10, 0x55), (10, 0x35), (10, 0x44), (10, 0x65), (19, vnet.UDP)])
def test_a_part_of_a_super_packet_that_is_none_ends_nothing(packet: Any, at: int, byte: int) -> None:
    """Such a part has to be mended, and to write into a header that is not there was the end of the process."""
    frame = bytearray(virtio(NEEDS_CSUM, GSO_TCPV4, 10, 20, 16) + tcp(packet, bytes(40)))
    assert check_super(memoryview(frame)) == 50
    frame[at] = byte
    victim = victims.Victim()
    victim.receive_each(ALICE.seal_true(1, Head(SUPER, group=1, stride=1000), bytes(frame), 1456), ALICE.endpoint)
    assert victim.device.frames == []
    assert victim.tunnel.drops == {VpnDrop.MALFORMED: 1}
    victim.check_dave()


def test_no_super_packet_is_larger_than_its_header_can_say(packet: Any) -> None:
    frame = virtio(NEEDS_CSUM, GSO_TCPV4, 10, 20, 16) + tcp(packet, bytes(40))
    largest = bytearray(frame.ljust(vnet.MAX_FRAME, b"\0"))
    assert check_super(memoryview(largest)) == 50
    with pytest.raises(Refused):
        check_super(memoryview(largest + b"\0"))


@pytest.mark.parametrize("stride", [1441, 5000, 60000])
def test_no_gap_between_the_slices_shows_what_lay_in_the_buffer(packet: Any, stride: int) -> None:
    victim = victims.Victim()
    whole = bytearray(virtio(NEEDS_CSUM, GSO_TCPV4, 1360, 20, 16) + tcp(packet, bytes(1440 - 50)))
    whole[12:14] = (len(whole) - 10 + stride).to_bytes(2)
    head = Head(SUPER, stride=stride)
    sealed = ALICE.seal(1, head, bytes(whole), 1456)
    sealed += ALICE.seal(1, replace(head, kind=SUPER | LAST, group=1), bytes(whole), 1456)
    victim.receive(b"".join(sealed), 1472, ALICE.endpoint)
    assert victim.device.frames == []
    assert victim.tunnel.drops == {VpnDrop.MALFORMED: 1}


def test_a_group_in_parts_is_no_larger_than_any_other() -> None:
    """Two parts of 64 KiB each were within the bound of one, and a relay would have passed on more than fits."""
    victim = victims.Victim()
    plain = sides.encode_tale(sides.RELAY, Tale(CAROL.local.public, 1472, bytes(MAX_GROUP + 1 - TAG - sides.TALE)))
    first, second = ALICE.seal(1, Head(SIDE, members=2), plain, 40000)
    victim.receive_each([first, second], ALICE.endpoint)
    assert victim.tunnel.drops == {VpnDrop.MALFORMED: 1}
    assert victim.port.sent == []
    victim.check()


@pytest.mark.parametrize("alone", [True, False])
def test_a_last_part_longer_than_any_group_had_is_refused(packet: Any, alone: bool) -> None:
    """It is known how groups are cut, so parts are put where they belong before anybody looks at what is in them."""
    victim = victims.Victim()
    frame = virtio(NEEDS_CSUM, GSO_TCPV4, 1360, 20, 16) + tcp(packet, bytes(64000))
    for _ in range(2):
        parts = ALICE.seal_true(1, Head(SUPER | LAST, stride=8000), frame, 8928)
        victim.receive(b"".join(parts), 8944, ALICE.endpoint)
    assert len(victim.device.frames) == 2
    parts = ALICE.seal_true(1, Head(SUPER | LAST, stride=8000), frame, 8928)
    longer = parts[-1].ljust(8944, b"x")
    assert len(parts[:-1]) * 8944 + len(longer) > MAX_GROUP + HEADER_SIZE * len(parts)
    for wire in [[longer], [*parts[1:-1], longer]][alone:]:
        victim.receive(b"".join(wire), 8944, ALICE.endpoint)
    victim.receive(b"".join(parts[1:]), 8944, ALICE.endpoint)
    victim.receive(parts[0], 8944, ALICE.endpoint)
    victim.check()
    victim.check_dave()


@pytest.mark.parametrize("kind", [sides.RELAY, sides.RELAYED])
def test_no_more_datagrams_are_relayed_at_once_than_one_send_has(kind: int) -> None:
    """Each is compared with those behind it, so 3,800 in one message would have taken seconds."""
    victim = victims.Victim()
    for count, drops in ((MAX_DATAGRAMS, 0), (MAX_DATAGRAMS + 1, 1)):
        tale = Tale(CAROL.local.public, 100, bytes(100 * count))
        plain = sides.encode_tale(kind, tale)
        victim.receive_each(ALICE.seal_true(1, Head(SIDE), plain, 60000), ALICE.endpoint)
        assert victim.tunnel.drops[VpnDrop.MALFORMED] == drops


def test_all_datagrams_of_one_size_come_whole_however_many_they_are() -> None:
    """A kernel that puts together more datagrams than there are places for must not have them misread."""
    victim = victims.Victim()
    frame = PLAIN + b"\x45\0\0\x14" + bytes(4) + b"\x40\xfd\0\0" + b"\x0a\1\0\1\x0a\1\0\x09"
    for _ in range(2):
        sealed = [ALICE.seal_true(1, Head(PACKETS), entry(frame), 1456)[0] for _ in range(MAX_DATAGRAMS + 72)]
        victim.receive(b"".join(sealed), HEADER_SIZE + len(entry(frame)) + TAG, ALICE.endpoint)
    assert len(victim.device.frames) == 2 * (MAX_DATAGRAMS + 72)
