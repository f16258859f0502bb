"""Small frames that wait at the same moment, put together: many in a datagram, UDP of one flow under one header. Pure.

The packets of a flow stay in their order, those of different flows need not: no network promises that. So packets of
flows that take turns share headers too, and the receiver hands each flow to its kernel in one call.

A bundle is a sequence of entries [u16 length, little endian][frame]; an entry of length 0 ends it, behind it are
zeros. records.py seals it as PACKETS.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.vnet import (
    GSO_NONE,
    GSO_UDP_L4,
    HEADER,
    IPV4_HEADER,
    MAX_FRAME,
    NEEDS_CSUM,
    PLAIN_IPV4,
    TCP,
    UDP,
    UDP_HEADER,
    VNET_HEADER,
)

_LENGTH = struct.Struct("<H")
_FLOW = struct.Struct("<12s4x4s2x12s")
"""The headers of a frame with UDP over IPv4, without what differs within a flow: lengths, identification, checksums."""
_HOST_OF = struct.Struct("<10xB8xB6x4s")
"""Of a frame: the first byte of its packet, and of IPv4 protocol and destination."""
_FLOW_SIZE = VNET_HEADER + IPV4_HEADER + UDP_HEADER
_GROWS = struct.Struct(">2xH6xH12xHH")
"""Of IPv4 and UDP behind it: length, sum, length, sum of the pseudo-header."""
_DF = b"\x40\0"
_MERGES = bytes((NEEDS_CSUM, GSO_NONE))

_PADDED = 4
"""A bundle that is followed by another is filled with zeros if less than this part of it is free: datagrams of one size
go out in one system call, and come in in one. Raising it spares bytes, up to a quarter in a burst of large packets."""

Run: TypeAlias = list[memoryview]
"""Frames of one UDP flow, all of one size but the last, which may be shorter; or any frame alone."""

MOST_MERGED = 64
"""Packets in one super-packet of UDP: what every kernel with USO takes (UDP_MAX_SEGMENTS of linux/udp.h before 6.9)."""


def bundle(runs: Iterable[Run], room: int) -> Iterator[bytes]:
    """Yield bundles of at most `room` bytes that hold the runs; a frame with no room has one of its own.

    UDP of one flow becomes super-packets. That loses its IPv4 identification, which says nothing in a packet that may
    not be fragmented (RFC 6864); others are left as they are.
    """
    parts: list[bytes | bytearray | memoryview] = []
    left = room
    for run in runs:
        at, size = 0, len(run[0]) + _LENGTH.size
        while at < len(run):
            if size > left and parts:
                if 0 < left * _PADDED < room:
                    parts.append(bytes(left))
                yield b"".join(parts)
                parts, left = [], room
            if len(run) == 1:
                merged: memoryview | bytearray = run[0]
            else:
                most = 1 + max(0, left - size) // (size - _LENGTH.size - _FLOW_SIZE)
                merged = merge(run[at : at + most])
                at += most - 1
            at += 1
            parts += (_LENGTH.pack(len(merged)), merged)
            left -= len(merged) + _LENGTH.size
    if parts:
        yield b"".join(parts)


def bundle_few(frames: Iterable[memoryview], room: int) -> bytes | None:
    """Return the bundle of a few frames with TCP over IPv4 for one host, as acknowledgements are.

    None where they are something else, or have no room: then `find_runs` and `bundle` have to look at them.
    """
    parts: list[bytes | memoryview] = []
    host = None
    for frame in frames:
        size = len(frame)
        if size < _FLOW_SIZE:
            return None
        found = _HOST_OF.unpack_from(frame)
        if found != host:
            if host is not None or found[0] != PLAIN_IPV4 or found[1] != TCP:
                return None
            host = found
        parts += (_LENGTH.pack(size), frame)
        room -= 2 + size
    return b"".join(parts) if room >= 0 else None


def unbundle(plain: memoryview, frames: list[memoryview]) -> None:
    """Append the frames of a bundle, each a part of it. Raises Refused (malformed) at what is none."""
    at, end, unpack = 0, len(plain), _LENGTH.unpack_from
    while at < end - 1:
        size = unpack(plain, at)[0]
        if not size:  # what follows fills the datagram
            return
        start = at + 2
        at = start + size
        if at > end or size <= VNET_HEADER:
            raise Refused(VpnDrop.MALFORMED)
        frames.append(plain[start:at])
    if at < end and plain[at]:
        raise Refused(VpnDrop.MALFORMED)


def find_runs(frames: Iterable[memoryview]) -> list[Run]:
    """Return the frames in runs, in the order of their first ones."""
    runs: list[Run] = []
    open_runs: dict[tuple[bytes, ...], Run] = {}
    for frame in frames:
        run = [frame]
        if len(frame) > _FLOW_SIZE:
            flow = _FLOW.unpack_from(frame)
            before = open_runs.get(flow)
            if before is not None and len(before[-1]) == len(before[0]) >= len(frame):
                before.append(frame)
                continue
            if before is not None or _can_merge(flow):
                open_runs[flow] = run
        runs.append(run)
    return runs


def _can_merge(flow: tuple[bytes, ...]) -> bool:
    ip = flow[0]
    return ip[:2] == _MERGES and ip[10] == 0x45 and flow[1][3] == UDP and flow[1][:2] == _DF


def take_bulk(runs: list[Run], room: int) -> tuple[list[Run], list[Run]]:
    """Return the run that makes up most of a burst, in pieces that become a super-packet each, and the other runs.

    No pieces where there is no such run, or it fits one datagram. Sealed as one record they cost both ends one call of
    the cipher and the receiver one of its kernel. Of flows that share a burst each would cost a send of its own.
    """
    bulk = max(runs, key=len)
    payload = len(bulk[0]) - _FLOW_SIZE
    if 2 * len(bulk) <= sum(map(len, runs)) or len(bulk) == 1 or len(bulk) * payload <= room:
        return [], runs
    most = min(MOST_MERGED, (MAX_FRAME - _FLOW_SIZE) // payload)
    pieces = [bulk[at : at + most] for at in range(0, len(bulk), most)]
    return pieces, [run for run in runs if run is not bulk]


def merge(run: Run) -> memoryview | bytearray:
    """Return a super-packet with the payloads of a run; its sums grow as its lengths do (RFC 1624)."""
    if len(run) == 1:
        return run[0]
    first = run[0]
    merged = bytearray().join((first, *[frame[_FLOW_SIZE:] for frame in run[1:]]))
    gso_size, grown = len(first) - _FLOW_SIZE, len(merged) - len(first)
    HEADER.pack_into(merged, 0, NEEDS_CSUM, GSO_UDP_L4, _FLOW_SIZE - VNET_HEADER, gso_size, IPV4_HEADER, 6)
    length, ip_sum, udp_length, udp_sum = _GROWS.unpack_from(merged, VNET_HEADER)
    merged[12:14] = (length + grown).to_bytes(2)
    merged[20:22] = (0xFFFF - _add(0xFFFF - ip_sum, grown)).to_bytes(2)
    merged[34:38] = (udp_length + grown << 16 | _add(udp_sum, grown)).to_bytes(4)
    return merged


def _add(one: int, other: int) -> int:
    """Add in ones' complement, 16 bits."""
    total = one + other
    return (total & 0xFFFF) + (total >> 16)
