"""Bundles that look alike: what is recognised is what would have been found by a look at each frame."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.bundle import unbundle
from kairos_net_vpn.datagrams import HEADER_SIZE
from kairos_net_vpn.drops import Refused
from kairos_net_vpn.lone import MOST, cut, recognise
from kairos_net_vpn.small import TAG, OpenSSL

CIPHER = OpenSSL(AESGCM(bytes(32)))
FRAME = bytes(10) + b"\x45\0\0\x28\0\1\x40\0\x40\6\0\0" + bytes([10, 1, 0, 1, 10, 1, 0, 2]) + bytes(20)


def datagram(*frames: bytes, behind: bytes = b"") -> memoryview:
    plain = b"".join(len(frame).to_bytes(2, "little") + frame for frame in frames) + behind
    return memoryview(bytearray(HEADER_SIZE) + plain + bytearray(TAG))


def frames_of(octets: memoryview) -> list[memoryview]:
    frames: list[memoryview] = []
    unbundle(octets[HEADER_SIZE:-TAG], frames)
    return frames


def test_the_parts_lie_where_the_datagram_has_them() -> None:
    octets = datagram(FRAME, FRAME)
    octets[:HEADER_SIZE] = bytes(range(HEADER_SIZE))
    buffer = memoryview(bytearray(octets) + bytearray(100))
    lone = recognise(cut(buffer, len(octets), CIPHER), frames_of(buffer[: len(octets)]))
    assert lone is not None
    nonce, sealed, _ = lone.arguments
    assert nonce.tobytes() == bytes(range(4, HEADER_SIZE))
    assert sealed.tobytes() == octets[HEADER_SIZE:].tobytes()
    assert lone.plain.tobytes() == octets[HEADER_SIZE:-TAG].tobytes()
    assert [frame.tobytes() for frame in lone.frames] == [FRAME, FRAME]
    assert lone.traits.unpack_from(lone.plain) == lone.admitted
    buffer[HEADER_SIZE + 2 + 10 + 13] ^= 1  # another source
    assert lone.traits.unpack_from(lone.plain) != lone.admitted


def test_what_more_than_its_traits_decides_is_not_recognised() -> None:
    super_packet, ipv6 = b"\1\1" + FRAME[2:], FRAME[:10] + b"\x60" + FRAME[11:]
    for octets in (
        datagram(super_packet),
        datagram(FRAME, ipv6),
        datagram(FRAME, FRAME[:29]),
        datagram(*[FRAME] * (MOST + 1)),
        datagram(FRAME, behind=bytes(2)),
        datagram(),
    ):
        assert recognise(cut(octets, len(octets), CIPHER), frames_of(octets)) is None


SIZES = st.lists(st.integers(0, 9), min_size=1, max_size=MOST)


@given(SIZES, SIZES, st.integers(0, 400), st.integers(0, 255), st.data())
def test_whatever_is_recognised_is_cut_where_the_one_before_was(
    sizes: list[int], others: list[int], at: int, value: int, data: st.DataObject
) -> None:
    frames = [FRAME + bytes(size) for size in sizes]
    octets = datagram(*frames)
    lone = recognise(cut(octets, len(octets), CIPHER), frames_of(octets))
    assert lone is not None
    other = datagram(*[FRAME + bytes(size) for size in data.draw(st.sampled_from((sizes, others)))])
    if len(other) != len(octets):
        return
    octets[HEADER_SIZE:] = other[HEADER_SIZE:]
    octets[HEADER_SIZE + at % (len(octets) - HEADER_SIZE - TAG)] = value
    if lone.traits.unpack_from(lone.plain) != lone.admitted:
        return
    try:
        found = frames_of(octets)
    except Refused:
        raise AssertionError("what is recognised is well formed") from None
    assert [frame.tobytes() for frame in found] == [frame.tobytes() for frame in lone.frames]
    for frame in found:  # all that decides whether it may come in is as it was
        assert frame[:14].tobytes() == FRAME[:14]
        assert frame[19] == FRAME[19]
        assert frame[22:30].tobytes() == FRAME[22:30]
