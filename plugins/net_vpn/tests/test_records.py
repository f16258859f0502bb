"""The record codec: what is sealed comes out as it was, or not at all.

Longer than other files: what builds and reads frames by the book is here, beside all the tests that use it.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import Any, NamedTuple

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_net_vpn import vnet
from kairos_net_vpn.bundle import bundle, find_runs
from kairos_net_vpn.datagrams import HEADER_SIZE, Buffer, Received
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.opening import OUT_SIZE, Opener
from kairos_net_vpn.parts import Buffers
from kairos_net_vpn.records import CHACHA, LAST, MAX_COUNTER, Sealer, derive_ciphers
from kairos_net_vpn.runs import MAX_WAITING, Span
from kairos_net_vpn.slot import ROOM, Slot
from kairos_net_vpn.small import TAG
from kairos_net_vpn.underlay import split
from kairos_net_vpn.vnet import GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, HEADER, NEEDS_CSUM, PLAIN

KEY = bytes(range(32))
INDEX = 0xAABBCCDD
SPARE = 1 << 18
PORTS = b"\x30\x39\x14\x51"


def reference_sum(data: bytes) -> int:
    """Add 16-bit words as RFC 1071 says, one by one."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"))
        total = (total & 0xFFFF) + (total >> 16)
    return total


def super_packet(version: int, protocol: int, payload: bytes, gso_size: int, *, flags: int = 0x18) -> bytearray:
    """Return a super-packet as the kernel hands it over: checksum field with the sum of the pseudo-header."""
    if protocol == vnet.TCP:
        options = b"\1\1\x08\x0a" + bytes(8)
        layer4 = (
            b"\x30\x39\x14\x51" + (0xFFFFFF00).to_bytes(4) + bytes(4) + bytes([0x80, flags]) + b"\1\0\0\0\0\0" + options
        )
    else:
        layer4 = PORTS + ((8 + len(payload)) & 0xFFFF).to_bytes(2) + b"\0\0"
    size = len(layer4) + len(payload)
    if version == 4:
        addresses = ip_address("10.1.0.1").packed + ip_address("10.1.0.2").packed
        ip = bytearray(
            b"\x45\0" + (20 + size).to_bytes(2) + b"\xff\xff\x40\0\x40" + bytes([protocol, 0, 0]) + addresses
        )
        ip[10:12] = (0xFFFF ^ reference_sum(bytes(ip))).to_bytes(2)
    else:
        addresses = ip_address("fd00::1").packed + ip_address("fd00::2").packed
        ip = bytearray(b"\x60\0\0\0" + size.to_bytes(2) + bytes([protocol, 64]) + addresses)
    kind = GSO_UDP_L4 if protocol == vnet.UDP else (GSO_TCPV4 if version == 4 else GSO_TCPV6)
    offset = 16 if protocol == vnet.TCP else 6
    header = HEADER.pack(NEEDS_CSUM, kind, len(ip) + len(layer4), gso_size, len(ip), offset)
    frame = bytearray(header + ip + layer4 + payload)
    pseudo = reference_sum(addresses + size.to_bytes(4) + protocol.to_bytes(4))
    frame[10 + len(ip) + offset : 12 + len(ip) + offset] = pseudo.to_bytes(2)
    if len(payload) <= gso_size:
        frame[1], frame[4:6] = GSO_NONE, b"\0\0"
    return frame


class Parsed(NamedTuple):
    """A packet, checked in all its sums."""

    version: int
    protocol: int
    sequence: int
    flags: int
    payload: bytes
    identification: int


def parse(packet: bytes) -> Parsed:
    """Read a packet and check its lengths and checksums by the book."""
    version = packet[0] >> 4
    if version == 4:
        assert int.from_bytes(packet[2:4]) == len(packet)
        assert reference_sum(packet[:20]) == 0xFFFF
        protocol, addresses, layer4 = packet[9], packet[12:20], packet[20:]
    else:
        assert int.from_bytes(packet[4:6]) + 40 == len(packet)
        protocol, addresses, layer4 = packet[6], packet[8:40], packet[40:]
    assert reference_sum(addresses + len(layer4).to_bytes(4) + protocol.to_bytes(4) + layer4) == 0xFFFF
    identification = int.from_bytes(packet[4:6]) if version == 4 else 0
    if protocol == vnet.TCP:
        start = (layer4[12] >> 4) * 4
        return Parsed(version, protocol, int.from_bytes(layer4[4:8]), layer4[13], layer4[start:], identification)
    assert int.from_bytes(layer4[4:6]) == len(layer4)
    return Parsed(version, protocol, 0, 0, layer4[8:], identification)


def segments(frame: bytes | bytearray | memoryview) -> list[Parsed]:
    assert int.from_bytes(frame[2:4], "little") <= len(frame) - 10, "the kernel refuses a longer hdr_len"
    return [parse(bytes(packet)) for packet in vnet.segment(memoryview(bytearray(frame)))]


def pair(*, chacha: bool = False) -> tuple[Sealer, Opener]:
    return Sealer(KEY, INDEX, chacha=chacha), Opener(KEY, Counter(), Buffers())


def seal(sealer: Sealer, frame: bytes | bytearray, size: int = 1472, members: int = 8) -> list[bytes]:
    """Return the datagrams of a super-packet."""
    slot = Slot()
    slot.octets[ROOM : ROOM + len(frame)] = frame
    mould = sealer.mould(slot.octets[ROOM : ROOM + len(frame)], size, members)
    wire = sealer.seal_super(slot, len(frame), mould, Buffer(SPARE))
    return datagrams(split((wire,), size))


def datagrams(sealed: list[memoryview]) -> list[bytes]:
    return [bytes(each) for each in sealed]


def receives(sent: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield what a socket with UDP_GRO would give: runs of one size, of which the last may be shorter."""
    run: list[bytes] = []
    for datagram in sent:
        if run and (len(datagram) > size or len(run) == 64):
            yield b"".join(run)
            run = []
        run.append(datagram)
        if len(datagram) != size:
            yield b"".join(run)
            run = []
    if run:
        yield b"".join(run)


def opened(opener: Opener, sent: Iterable[bytes], size: int) -> list[bytes]:
    """Return the frames in datagrams, received in batches of this datagram size: the short way where it goes."""
    out, frames = memoryview(bytearray(OUT_SIZE)), []
    for wire in receives(sent, size):
        received = Received.copy(wire, size)
        usual = opener.open_usual(received, out)
        if usual is not None:
            frames.append(bytes(usual[0]))
        elif received.tail >= HEADER_SIZE:
            frames += [bytes(frame) for frame in opener.open(received, Span(0, received.count, received.tail), out)]
    return frames


SHAPES = [(4, vnet.TCP), (6, vnet.TCP), (4, vnet.UDP), (6, vnet.UDP)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chacha", [False, True])
@pytest.mark.parametrize("members", [1, 2, 8, 16, 44, 64])
def test_a_super_packet_arrives_in_one_piece_byte_for_byte(shape: tuple[int, int], chacha: bool, members: int) -> None:
    sealer, opener = pair(chacha=chacha)
    for length in (1401, 11570, 11571, 60000):
        frame = super_packet(*shape, random.Random(length).randbytes(length), 1360)
        sent = seal(sealer, frame, members=members)
        assert {len(datagram) for datagram in sent[:-1]} <= {1472}
        assert opened(opener, sent, 1472) == [bytes(frame)]
    assert not opener.drops


def test_what_is_in_a_header_is_what_the_layout_says() -> None:
    sealer, _ = pair(chacha=True)
    sealer.counter = 0x0102030405
    sent = seal(sealer, super_packet(4, vnet.TCP, bytes(12900), 1360), members=8)
    assert len(sent) == 9
    stride = 8 * 1456 - TAG - 62
    head = INDEX.to_bytes(4, "little") + bytes([1 | CHACHA, 8])
    tail = stride.to_bytes(2, "little") + b"\x05\x04\x03\x02\x01\x00"
    assert [datagram[:16] for datagram in sent[:8]] == [head + bytes([i, 0]) + tail for i in range(8)]
    assert sent[8][:16] == INDEX.to_bytes(4, "little") + bytes([1 | CHACHA | LAST, 1, 0, 1]) + tail
    assert len(sent[8]) == 16 + 62 + (12900 - stride) + TAG


def test_no_nonce_repeats_between_kinds_of_records() -> None:
    sealer, _ = pair()
    buffer, seen = Buffer(SPARE), set()
    for _ in range(20):
        sent = seal(sealer, super_packet(4, vnet.TCP, bytes(30000), 1360), members=2)
        sent += datagrams(sealer.seal_bundles([b"a", b"b", bytes(2000)], 1472, buffer))
        sent += [memoryview(bytes(sealer.seal_report(1, 2)))]
        heads = {datagram[4:16] for datagram in sent if datagram[6] == 0}
        assert not heads & seen
        assert len({(h[3] + int.from_bytes(h[6:12], "little")) for h in heads}) == len(heads)
        seen |= heads


def test_the_ciphers_and_the_session_have_keys_of_their_own() -> None:
    nonce, plain = bytes(12), bytes(64)
    aes = derive_ciphers(KEY, chacha=False)[0].encrypt(nonce, plain, None)
    chacha = derive_ciphers(KEY, chacha=True)[0].encrypt(nonce, plain, None)
    assert AESGCM(KEY).encrypt(nonce, plain, None) != aes
    assert ChaCha20Poly1305(KEY).encrypt(nonce, plain, None) != chacha
    assert aes != chacha


@pytest.mark.parametrize("shape", SHAPES)
def test_of_a_record_with_a_group_lost_the_rest_arrives_mended(shape: tuple[int, int]) -> None:
    frame = super_packet(*shape, random.Random(1).randbytes(50000), 1360, flags=0x99)
    whole = segments(frame)
    for lost in range(35):
        sealer, opener = pair()
        sent = seal(sealer, frame)
        frames = opened(opener, sent[:lost] + sent[lost + 1 :], 1472)
        pieces = [piece for one in frames for piece in segments(one)]
        assert len(frames) in (1, 2)
        check_pieces(pieces, whole)
        assert sum(len(piece.payload) for piece in pieces) >= 50000 - 8 * 1456


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    members=st.integers(1, 64),
    cuts=st.sets(st.integers(1, 34), max_size=6),
    again=st.sets(st.integers(0, 34), max_size=3),
)
def test_a_record_that_comes_in_several_receives_arrives_whole(
    shape: tuple[int, int], members: int, cuts: set[int], again: set[int]
) -> None:
    frame = super_packet(*shape, random.Random(2).randbytes(50000), 1360)
    sealer, opener = pair()
    sent = seal(sealer, frame, members=members)
    pieces: list[Parsed] = []
    for start, end in itertools.pairwise((0, *sorted(cuts), len(sent))):
        twice = [sent[i] for i in sorted(again) if start <= i < end]  # the network doubles some
        for received in (sent[start:end], *([one] for one in twice)):
            pieces += [piece for one in opened(opener, received, 1472) for piece in segments(one)]
    check_pieces(pieces, segments(frame))
    assert sum(len(piece.payload) for piece in pieces) == 50000


def check_pieces(pieces: list[Parsed], whole: list[Parsed]) -> None:
    """Check that what came is part of what was sent: for TCP each byte in its place, for UDP whole packets."""
    if whole[0].protocol == vnet.UDP:
        assert not Counter((p.payload, p.identification) for p in pieces) - Counter(
            (p.payload, p.identification) for p in whole
        )
        return
    stream, start = b"".join(p.payload for p in whole), whole[0].sequence
    for piece in pieces:
        at = (piece.sequence - start) & 0xFFFFFFFF
        assert piece.payload
        assert stream[at : at + len(piece.payload)] == piece.payload
        is_last = at + len(piece.payload) == len(stream)
        assert piece.flags & 0x09 == (whole[-1].flags & 0x09 if is_last else 0)
        assert piece.flags & 0x80 == (whole[0].flags & 0x80 if at == 0 else 0)


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    shape=st.sampled_from(SHAPES),
    chacha=st.booleans(),
    length=st.integers(1, 60000),
    cut=st.tuples(st.integers(50, 1125), st.integers(1, 64), st.integers(100, 1400)),
)
def test_through_loss_reordering_and_duplication_nothing_comes_out_altered_or_twice(
    data: Any, shape: tuple[int, int], chacha: bool, length: int, cut: tuple[int, int, int]
) -> None:
    words, members, gso_size = cut
    size = 8 * words
    random_source = data.draw(st.randoms(use_true_random=False))
    frame = super_packet(*shape, random_source.randbytes(length), gso_size)
    whole = segments(frame)
    if frame[1] == GSO_NONE:
        return
    sealer, opener = pair(chacha=chacha)
    try:
        sent = seal(sealer, frame, size, members)
    except Refused as refused:  # does not fit one batch
        assert refused.drop is VpnDrop.OVERSIZED
        return
    damage(sent, random_source)
    pieces = [piece for one in opened(opener, sent, size) for piece in segments(one)]
    check_pieces(pieces, whole)
    assert sum(len(piece.payload) for piece in pieces) <= length


def damage(sent: list[bytes], source: random.Random) -> None:
    """Lose some datagrams, send some twice, and let some overtake others."""
    for _ in range(source.randrange(4)):
        if len(sent) > 1:
            del sent[source.randrange(len(sent))]
    for _ in range(source.randrange(3)):
        sent.insert(source.randrange(len(sent) + 1), source.choice(sent))
    for _ in range(source.randrange(3)):
        sent.insert(source.randrange(len(sent)), sent.pop(source.randrange(len(sent))))


def test_datagrams_one_by_one_and_in_any_order_give_all_of_it() -> None:
    sealer, opener = pair()
    frame = super_packet(4, vnet.TCP, random.Random(2).randbytes(60000), 1360)
    sent = seal(sealer, frame)
    random.Random(3).shuffle(sent)
    pieces = [piece for one in sent for f in opened(opener, [one], len(one)) for piece in segments(f)]
    check_pieces(pieces, segments(frame))
    assert sum(len(piece.payload) for piece in pieces) == 60000


def test_a_record_that_comes_twice_is_taken_once() -> None:
    sealer, opener = pair()
    sent = seal(sealer, super_packet(4, vnet.TCP, bytes(60000), 1360))
    assert len(opened(opener, sent, 1472)) == 1
    assert opened(opener, sent, 1472) == []
    assert set(opener.drops) == {VpnDrop.REPLAYED}


@settings(max_examples=100, deadline=None)
@given(which=st.integers(0, 100), position=st.integers(0, 1471), mask=st.integers(1, 255))
def test_no_altered_byte_is_taken_and_the_other_groups_survive(which: int, position: int, mask: int) -> None:
    sealer, opener = pair()
    frame = super_packet(4, vnet.TCP, random.Random(4).randbytes(60000), 1360)
    sent = seal(sealer, frame)
    which %= len(sent)
    altered = bytearray(sent[which])
    position %= len(altered)
    altered[position] ^= mask
    sent[which] = bytes(altered)
    pieces = [piece for one in opened(opener, sent, 1472) for piece in segments(one)]
    check_pieces(pieces, segments(frame))
    if position >= 4:  # before that it is the index, by which the session was found
        assert sum(len(piece.payload) for piece in pieces) < 60000


@settings(max_examples=300, deadline=None)
@given(
    fields=st.tuples(*[st.integers(0, 255)] * 4),
    stride=st.integers(0, 0xFFFF),
    number=st.integers(0, (1 << 48) - 1),
    body=st.binary(max_size=4000),
    size=st.integers(17, 200),
)
def test_garbage_is_counted_and_never_raises(
    fields: tuple[int, ...], stride: int, number: int, body: bytes, size: int
) -> None:
    _, opener = pair()
    head = INDEX.to_bytes(4, "little") + bytes(fields) + stride.to_bytes(2, "little") + number.to_bytes(6, "little")
    wire = b"".join(head + body[at : at + size - 16] for at in range(0, max(1, len(body)), size - 16))
    assert opened(opener, [wire[at : at + size] for at in range(0, len(wire), size)], size) == []


@settings(max_examples=100, deadline=None)
@given(kind=st.integers(0, 3), plain=st.binary(max_size=3000), chacha=st.booleans())
def test_authentic_garbage_is_counted_and_never_raises(kind: int, plain: bytes, chacha: bool) -> None:
    sealer, opener = pair(chacha=chacha)
    sent = datagrams(sealer._seal_group((kind, 0), plain, 1472, (Buffer(SPARE), 0)))
    for frame in opened(opener, sent, 1472):
        assert opener.losses.opened == 1
        assert len(frame) > 10


def test_a_counter_at_its_end_is_not_taken() -> None:
    sealer, opener = pair()
    sealer.counter = MAX_COUNTER
    assert opened(opener, datagrams(sealer.seal_bundles([b"\x0b\0" + bytes(11)], 1472, Buffer(SPARE))), 1472) == []
    assert opener.drops == {VpnDrop.REPLAYED: 1}


def test_groups_that_never_become_whole_are_bounded() -> None:
    sealer, opener = pair()
    for _ in range(100):
        opened(opener, seal(sealer, super_packet(4, vnet.TCP, bytes(9000), 1360))[:1], 1472)
    assert len(opener.waiting) == MAX_WAITING
    assert opener.drops == {VpnDrop.INCOMPLETE: 100 - MAX_WAITING}


def test_what_fits_no_group_waits_for_nothing() -> None:
    _, opener = pair()
    for number in range(10):
        head = INDEX.to_bytes(4, "little") + bytes((1, 64, 0, 0)) + bytes(2) + number.to_bytes(6, "little")
        assert opened(opener, [head + bytes(2000)], 2016) == []  # 64 of these are more than any group has
    assert not opener.waiting
    assert opener.drops == {VpnDrop.MALFORMED: 10}


def test_nothing_of_an_earlier_packet_fills_a_group() -> None:
    """UDP leaves room behind the last whole packet of a group: what lies there in the slot must not leave."""
    sealer, _ = pair()
    slot = Slot()
    slot.octets[:] = b"S" * len(slot.octets)
    frame = super_packet(4, vnet.UDP, bytes(1400 * 3), 1400)
    slot.octets[ROOM : ROOM + len(frame)] = frame
    mould = sealer.mould(slot.octets[ROOM : ROOM + len(frame)], 1472, 2)
    wire = sealer.seal_super(slot, len(frame), mould, Buffer(SPARE))
    first = bytearray(wire[: 2 * 1472])
    first[1472 : 1472 + 16] = first[16:32]
    plain = derive_ciphers(KEY, chacha=False)[0].decrypt(bytes(first[4:16]), bytes(first[32:]), None)
    assert len(wire) > len(first)
    assert len(plain) == 2 * 1456 - TAG
    assert b"S" not in plain


# -- bundles


def udp(payload: bytes, identification: int = 0, port: int = 53) -> bytes:
    frame = super_packet(4, vnet.UDP, payload, 0xFFFF)
    frame[10 + 20 + 2 : 10 + 20 + 4] = port.to_bytes(2)
    frame[14:16] = identification.to_bytes(2)
    frame[20:22] = b"\0\0"
    frame[20:22] = (0xFFFF ^ reference_sum(bytes(frame[10:30]))).to_bytes(2)
    return bytes(frame)


def through(frames: list[bytes], size: int = 1472) -> list[bytes]:
    sealer, opener = pair()
    views = [memoryview(bytearray(frame)) for frame in frames]
    sealed = sealer.seal_bundles(list(bundle(find_runs(views), size - HEADER_SIZE - TAG)), size, Buffer(1 << 20))
    return [frame for one in datagrams(sealed) for frame in opened(opener, [one[:size]], max(size, len(one)))]


def test_small_packets_of_one_flow_share_a_header_and_arrive_in_order() -> None:
    frames = [udp(bytes([i]) * 64, i) for i in range(50)]
    arrived = through(frames)
    assert len(arrived) == 3  # 22 payloads of 64 bytes and one header in 1440
    assert [piece.payload for one in arrived for piece in segments(one)] == [bytes([i]) * 64 for i in range(50)]


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 1392), st.integers(1, 3)), min_size=1, max_size=20),
    size=st.sampled_from([1296, 1448, 1472, 9000]),
)
def test_any_mixture_of_small_packets_arrives_unaltered_and_each_flow_in_order(
    kinds: list[tuple[int, int, int]], size: int
) -> None:
    frames = []
    for kind, length, count in kinds:
        payload = random.Random(length).randbytes(length)
        one = {
            0: udp(payload, port=53),
            1: udp(payload, port=54),
            2: bytes(super_packet(4, vnet.TCP, payload[:1348], 1360)),
            3: PLAIN + b"\x45\0" + (20 + length).to_bytes(2) + bytes(4) + b"\x40\xfd\0\0" + bytes(8) + payload,
        }[kind]
        frames += [one] * count
    arrived = through(frames, size)
    assert by_flow(arrived) == by_flow(frames)


def by_flow(frames: list[bytes]) -> dict[bytes, list[bytes]]:
    """Return packets in their order by protocol and, of UDP, ports."""
    flows: dict[bytes, list[bytes]] = {}
    for frame in frames:
        for packet in packets(frame):
            flows.setdefault(packet[9:10] + (packet[20:24] if packet[9] == vnet.UDP else b""), []).append(packet)
    return flows


def test_flows_that_take_turns_share_headers_too_and_arrive_in_a_few_frames() -> None:
    sizes = (64, 320, 96, 512)
    frames = [udp(bytes([turn]) * size, turn, port) for turn in range(8) for port, size in enumerate(sizes)]
    arrived = through(frames)
    assert len(arrived) <= 3 * len(sizes)
    assert by_flow(arrived) == by_flow(frames)


def test_a_shorter_packet_ends_a_super_packet_of_its_flow_and_a_longer_one_begins_another() -> None:
    frames = [udp(bytes([i]) * size, i) for i, size in enumerate((64, 64, 40, 64, 64, 90))]
    arrived = through(frames)
    assert [len(packets(one)) for one in arrived] == [3, 2, 1]
    assert by_flow(arrived) == by_flow(frames)


def packets(frame: bytes) -> list[bytes]:
    """Return the packets of a frame, without what identifies those that may not be fragmented."""
    plain = [bytearray(packet) for packet in vnet.segment(memoryview(bytearray(frame)))]
    for packet in plain:
        packet[4:6] = packet[10:12] = b"\0\0"
    return [bytes(packet) for packet in plain]


def test_packets_that_may_be_fragmented_keep_their_identification() -> None:
    def fragmentable(identification: int) -> bytes:
        frame = bytearray(udp(bytes(64), identification))
        frame[16] = 0
        frame[20:22] = b"\0\0"
        frame[20:22] = (0xFFFF ^ reference_sum(bytes(frame[10:30]))).to_bytes(2)
        return bytes(frame)

    frames = [fragmentable(number) for number in (7, 3, 9)]
    assert through(frames) == frames


def test_a_report_reaches_the_sender() -> None:
    sealer, opener = pair()
    assert opened(opener, [sealer.seal_report(3, 1000)], 1472) == []
    assert opener.report == (3, 1000)


@pytest.mark.parametrize("broken", [lambda f: f[:20], lambda f: f[:45], lambda f: bytes(f[:6]) + b"\xff\xff" + f[8:]])
def test_a_broken_super_packet_of_our_kernel_is_refused(broken: Callable[[bytes], bytes]) -> None:
    sealer, _ = pair()
    frame = bytearray(broken(bytes(super_packet(4, vnet.TCP, bytes(3000), 1360))))
    with pytest.raises(Refused):
        seal(sealer, frame)
