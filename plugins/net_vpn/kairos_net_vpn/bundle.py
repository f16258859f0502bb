"""Small frames that wait at the same moment, put together: many in a datagram, UDP of one flow under one header. Pure.

A bundle is a sequence of entries [u16 length, little endian][frame]; records.py seals it as PACKETS.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from kairos_net_vpn.vnet import (
    GSO_NONE,
    GSO_UDP_L4,
    HEADER,
    IPV4_HEADER,
    NEEDS_CSUM,
    UDP,
    UDP_HEADER,
    VNET_HEADER,
    mend,
)

_LENGTH = struct.Struct("<H")
_FLOW = struct.Struct("<14s2x4s2x14s")
"""The headers of a frame with UDP over IPv4, without what differs within a flow: identification and checksums."""
_FLOW_SIZE = VNET_HEADER + IPV4_HEADER + UDP_HEADER
_DF = b"\x40\0"


def bundle(frames: Sequence[memoryview], room: int) -> Iterator[bytes]:
    """Yield bundles of at most `room` bytes that hold the frames in order; a frame with no room has one of its own.

    Neighbours of one UDP flow become a super-packet. That loses their IPv4 identification, which says nothing in a
    packet that may not be fragmented (RFC 6864); others are left as they are.
    """
    parts: list[bytes | bytearray | memoryview] = []
    left, at = room, 0
    while at < len(frames):
        frame = frames[at]
        size = len(frame) + _LENGTH.size
        if size > left and parts:
            yield b"".join(parts)
            parts, left = [], room
        run = _run(frames, at, left)
        if run > 1:
            merged = _merge(frames[at : at + run])
            parts += [_LENGTH.pack(len(merged)), merged]
            left -= len(merged) + _LENGTH.size
        else:
            parts += [_LENGTH.pack(len(frame)), frame]
            left -= size
        at += run
    if parts:
        yield b"".join(parts)


def _run(frames: Sequence[memoryview], at: int, left: int) -> int:
    """Return how many frames from one on can be merged in this much room; 1 if none can."""
    first = frames[at]
    if at + 1 == len(frames) or len(first) <= _FLOW_SIZE or len(first) != len(frames[at + 1]):
        return 1
    flow = _FLOW.unpack_from(first)
    can_merge = flow[0][:2] == bytes((NEEDS_CSUM, GSO_NONE)) and flow[0][10] == 0x45 and flow[1][3] == UDP
    if not can_merge or flow[1][:2] != _DF:
        return 1
    most = (left - _LENGTH.size - _FLOW_SIZE) // (len(first) - _FLOW_SIZE)
    end = at + 1
    for end in range(at + 1, min(len(frames), at + most)):
        if len(frames[end]) != len(first) or _FLOW.unpack_from(frames[end]) != flow:
            return end - at
    return max(1, min(len(frames) - at, most))


def _merge(frames: Sequence[memoryview]) -> bytearray:
    merged = bytearray().join((frames[0], *(frame[_FLOW_SIZE:] for frame in frames[1:])))
    size = len(frames[0]) - _FLOW_SIZE
    HEADER.pack_into(merged, 0, NEEDS_CSUM, GSO_UDP_L4, _FLOW_SIZE - VNET_HEADER, size, IPV4_HEADER, 6)
    mend(memoryview(merged), 0, is_last=True)
    return merged
