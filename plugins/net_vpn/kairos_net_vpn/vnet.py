"""Packets with the header that a TUN device puts before them, and what segmentation offload asks of them. Pure.

    struct virtio_net_hdr (linux/virtio_net.h), 10 bytes, little endian
    0 flags u8 | 1 gso_type u8 | 2 hdr_len u16 | 4 gso_size u16 | 6 csum_start u16 | 8 csum_offset u16

A *frame* is such a header and an IP packet. One with a `gso_type` is a *super-packet*: one header, and a payload
that stands for as many packets as `gso_size` goes into it. With NEEDS_CSUM the checksum field holds only the sum
of the pseudo-header; `csum_start` counts from the IP header. `hdr_len` is not to be believed on reading.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kairos_net_vpn.drops import Refused, VpnDrop

VNET_HEADER = 10
NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 4, 5, 0x80

MAX_FRAME = VNET_HEADER + 65535
PLAIN = bytes(VNET_HEADER)
"""The header of a packet that asks for nothing."""

PLAIN_IPV4 = 0x45
"""The first byte of an IPv4 packet without options."""

TCP, UDP = 6, 17
IPV4_HEADER, IPV6_HEADER, TCP_HEADER, UDP_HEADER = 20, 40, 20, 8
_TCP_CSUM, _UDP_CSUM = 16, 6
_FIN_PSH, _CWR = 0x09, 0x80
_SUPER = {
    (4, GSO_TCPV4): (TCP, TCP_HEADER, _TCP_CSUM),
    (4, GSO_TCPV4 | GSO_ECN): (TCP, TCP_HEADER, _TCP_CSUM),
    (6, GSO_TCPV6): (TCP, TCP_HEADER, _TCP_CSUM),
    (6, GSO_TCPV6 | GSO_ECN): (TCP, TCP_HEADER, _TCP_CSUM),
    (4, GSO_UDP_L4): (UDP, UDP_HEADER, _UDP_CSUM),
    (6, GSO_UDP_L4): (UDP, UDP_HEADER, _UDP_CSUM),
}
"""Of each kind of super-packet: protocol, bytes of its header at least, where the checksum is in it."""

HEADER = struct.Struct("<BBHHHH")


def header_size(packet: bytes | memoryview) -> int:
    """Return the least bytes of a packet of its version (RFC 791, RFC 8200). Raises Refused for others than 4 and 6."""
    version = packet[0] >> 4 if packet else 0
    if version == 4:
        return IPV4_HEADER
    if version == 6:
        return IPV6_HEADER
    raise Refused(VpnDrop.NOT_IP)


def check_super(frame: memoryview) -> int:
    """Return how long the headers of a super-packet are, its virtio header included.

    What a peer sent as one is believed in nothing. Raises Refused (malformed).
    """
    if not VNET_HEADER + IPV4_HEADER <= len(frame) <= MAX_FRAME:
        raise Refused(VpnDrop.MALFORMED)
    flags, kind, _, gso_size, start, offset = HEADER.unpack_from(frame)
    protocol, least, checksum = _SUPER.get((frame[VNET_HEADER] >> 4, kind), (0, 0, 0))
    at = VNET_HEADER + start
    if not protocol or not flags & NEEDS_CSUM or not gso_size or offset != checksum or len(frame) < at + least:
        raise Refused(VpnDrop.MALFORMED)
    header: int = at + (UDP_HEADER if protocol == UDP else (frame[at + 12] >> 4) * 4)
    if not at + least <= header < len(frame) or not _leads_to(frame, protocol, start):
        raise Refused(VpnDrop.MALFORMED)
    return header


def _leads_to(frame: memoryview, protocol: int, start: int) -> bool:
    """Say whether the IP header ends where the checksum begins, and a header of this protocol follows."""
    if frame[VNET_HEADER] >> 4 == 4:
        return start == (frame[VNET_HEADER] & 15) * 4 >= IPV4_HEADER and frame[VNET_HEADER + 9] == protocol
    # behind extension headers nobody looks: the kernel finds its own way, and needs no help of ours
    return start > IPV6_HEADER or (start == IPV6_HEADER and frame[VNET_HEADER + 6] == protocol)


def check_offloads(frame: memoryview) -> None:
    """Check what a peer's frame asks the kernel for: work on its payload, not on the header that was checked.

    A checksum would else be written over the addresses. The caller has checked that the IP header is whole. Raises
    Refused (malformed).
    """
    if frame[1] != GSO_NONE:
        check_super(frame)
    elif frame[0] & NEEDS_CSUM:
        _, _, _, _, start, offset = HEADER.unpack_from(frame)
        first = frame[VNET_HEADER]
        least = max((first & 15) * 4, IPV4_HEADER) if first >> 4 == 4 else IPV6_HEADER
        if start < least or VNET_HEADER + start + offset + 2 > len(frame):
            raise Refused(VpnDrop.MALFORMED)


def mend(frame: memoryview, offset: int, *, is_last: bool) -> None:
    """Make a super-packet of a part of one: `frame` is its headers and the payload from byte `offset` on.

    Length, IPv4 identification and checksum, TCP sequence number and flags, and the sum of the pseudo-header are
    put right in place; what fits one packet is no super-packet any more. Raises Refused (malformed).
    """
    header = check_super(frame)
    _, kind, _, gso_size, start, csum_offset = HEADER.unpack_from(frame)
    if kind == GSO_UDP_L4:
        frame[VNET_HEADER + start + 4 : VNET_HEADER + start + 6] = (len(frame) - VNET_HEADER - start).to_bytes(2)
    else:
        _mend_tcp(frame, VNET_HEADER + start, offset, is_last=is_last)
    if len(frame) - header <= gso_size:
        frame[1] = GSO_NONE
        frame[4:6] = b"\0\0"
    frame[2:4] = (header - VNET_HEADER).to_bytes(2, "little")
    _mend_ip(frame, offset // gso_size)
    at = VNET_HEADER + start + csum_offset
    frame[at : at + 2] = _pseudo_sum(frame, VNET_HEADER + start, kind).to_bytes(2)


def _mend_tcp(frame: memoryview, at: int, offset: int, *, is_last: bool) -> None:
    sequence = (int.from_bytes(frame[at + 4 : at + 8]) + offset) & 0xFFFFFFFF
    frame[at + 4 : at + 8] = sequence.to_bytes(4)
    if not is_last:
        frame[at + 13] &= ~_FIN_PSH & 0xFF
    if offset:  # the window was reduced once: only the first segment says so (RFC 3168, 6.1.2)
        frame[at + 13] &= ~_CWR & 0xFF
        frame[1] &= ~GSO_ECN & 0xFF


def _mend_ip(frame: memoryview, packets_before: int) -> None:
    if frame[VNET_HEADER] >> 4 == 6:
        frame[14:16] = (len(frame) - VNET_HEADER - IPV6_HEADER).to_bytes(2)
        return
    header = frame[VNET_HEADER : VNET_HEADER + (frame[VNET_HEADER] & 15) * 4]
    header[2:4] = (len(frame) - VNET_HEADER).to_bytes(2)
    header[4:6] = ((int.from_bytes(header[4:6]) + packets_before) & 0xFFFF).to_bytes(2)
    header[10:12] = b"\0\0"
    header[10:12] = (fold(header) ^ 0xFFFF).to_bytes(2)


def _pseudo_sum(frame: memoryview, at: int, kind: int) -> int:
    """Return the sum that a checksum field holds until it is completed. Source: RFC 9293, 3.1; RFC 8200, 8.1."""
    addresses = frame[18:50] if frame[VNET_HEADER] >> 4 == 6 else frame[22:30]
    protocol = UDP if kind == GSO_UDP_L4 else TCP
    return fold(bytes(addresses) + (len(frame) - at).to_bytes(4) + protocol.to_bytes(4))


def fold(data: bytes | memoryview) -> int:
    """Return the ones' complement sum of 16-bit words (RFC 1071): the number modulo 65535, but never 0 for data."""
    number = int.from_bytes(data) << (8 * (len(data) & 1))
    return number % 0xFFFF or (0xFFFF if number else 0)


def complete(frame: memoryview) -> memoryview:
    """Return the packet of a frame that is no super-packet, its checksum completed in place.

    Raises Refused (malformed).
    """
    flags, _, _, _, start, offset = HEADER.unpack_from(frame)
    packet = frame[VNET_HEADER:]
    if flags & NEEDS_CSUM:
        at = start + offset
        if at + 2 > len(packet):
            raise Refused(VpnDrop.MALFORMED)
        checksum = fold(packet[start:]) ^ 0xFFFF
        packet[at : at + 2] = (checksum or 0xFFFF).to_bytes(2)
        frame[0] &= ~NEEDS_CSUM & 0xFF
    return packet


def segment(frame: memoryview) -> Iterator[memoryview]:
    """Yield the packets that a frame stands for, complete with checksums: offload in software.

    A frame that is no super-packet is completed in place; the others are copied. Raises Refused (malformed).
    """
    if frame[1] == GSO_NONE:
        yield complete(frame)
        return
    header = check_super(frame)
    gso_size = int.from_bytes(frame[4:6], "little")
    size = len(frame) - header
    if size > gso_size * MAX_SEGMENTS:
        raise Refused(VpnDrop.MALFORMED)
    for offset in range(0, size, gso_size):
        part = memoryview(bytearray(frame[:header]) + frame[header + offset : header + offset + gso_size])
        mend(part, offset, is_last=offset + gso_size >= size)
        yield complete(part)


MAX_SEGMENTS = 2048
"""Packets in one super-packet: 64 KiB of 32 bytes each. Bounds the work that a peer's header can ask for."""
