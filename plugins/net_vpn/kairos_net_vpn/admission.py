"""What may come out of the tunnel: packets from addresses of the peer that sealed them, for addresses of ours. Pure.

And what a packet may ask the kernel to do for it. The frames of a stream ask for the same, between the same addresses:
whoever has been examined once is known again by its headers, in a fifth of the time.
"""

from __future__ import annotations

import struct
from collections import Counter

from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.mss import clamp
from kairos_net_vpn.peer import Peer
from kairos_net_vpn.prefixes import Inside
from kairos_net_vpn.vnet import (
    GSO_NONE,
    GSO_UDP_L4,
    HEADER,
    IPV4_HEADER,
    NEEDS_CSUM,
    PLAIN_IPV4,
    TCP_HEADER,
    UDP_HEADER,
    VNET_HEADER,
    check_offloads,
    header_size,
)

MOST_KNOWN = 256
"""Traits remembered of a peer, 0.4 KB each. Raising it helps a peer that sends many sizes to many addresses."""
_TRAIT = struct.Struct("<11s8xs2x8s")
"""Of a frame with IPv4: virtio header and the packet's first byte, protocol, both addresses."""
_LEAST = _TRAIT.size
_TCP_AT = VNET_HEADER + IPV4_HEADER
_LEAST_TCP = _TCP_AT + TCP_HEADER + 1
"""Bytes in a super-packet of TCP at least; how many its own header takes stands in its thirteenth byte."""


class Admission:
    """Examines what peers send to this node."""

    def __init__(self, inside: Inside, mtu: int, drops: Counter[VpnDrop]) -> None:
        self._inside = inside
        self._mtu = mtu
        self._drops = drops

    def admit(self, frame: memoryview, peer: Peer) -> memoryview | None:
        """Return a frame without padding if this peer may send it to us, else None, and count why not.

        The MSS is clamped where one of the ends lies behind a node.
        """
        size = len(frame)
        least = peer.admitted.get(_TRAIT.unpack_from(frame)) if size >= _LEAST else None
        if least is not None:
            end = VNET_HEADER + (frame[12] << 8 | frame[13])
            if least <= end <= size and (
                least != _LEAST_TCP or _LEAST_TCP <= _TCP_AT + (frame[_TCP_AT + 12] >> 4) * 4 + 1 <= end
            ):
                return frame if end == size else frame[:end]
        try:
            return self._examine(frame, peer)
        except Refused as refused:
            self._drops[refused.drop] += 1
            peer.refused += 1
            return None

    def _examine(self, frame: memoryview, peer: Peer) -> memoryview:
        """Return a frame without padding, and remember its traits if others with them need not be looked at.

        Raises Refused.
        """
        frame = self._without_padding(frame, peer)
        if frame[VNET_HEADER] == PLAIN_IPV4 and peer.sources is None and not self._inside.routes:
            if len(peer.admitted) >= MOST_KNOWN:
                peer.admitted.clear()
            peer.admitted[_TRAIT.unpack_from(frame)] = _least(frame)
        return frame

    def _without_padding(self, frame: memoryview, peer: Peer) -> memoryview:
        frame = frame[: VNET_HEADER + self.check(frame[VNET_HEADER:], peer)]
        if frame[0] or frame[1]:
            check_offloads(frame)
        if peer.sources is not None or self._inside.routes:
            clamp(frame, self._mtu)
        return frame

    def check(self, packet: bytes | memoryview, peer: Peer) -> int:
        """Return how long a packet is without its padding, if this peer may send it to us. Raises Refused."""
        if packet[0] >> 4 == 4 and len(packet) >= IPV4_HEADER:
            length, source, destination = packet[2] << 8 | packet[3], bytes(packet[12:16]), bytes(packet[16:20])
        else:
            length, source, destination = 40 + int.from_bytes(packet[4:6]), bytes(packet[8:24]), bytes(packet[24:40])
        if not header_size(packet) <= length <= len(packet):
            raise Refused(VpnDrop.NOT_IP)
        if source not in peer.addresses and not peer.owns(source):
            raise Refused(VpnDrop.SOURCE_MISMATCH)
        if destination not in self._inside.addresses and not self._inside.is_ours(destination):
            raise Refused(VpnDrop.NOT_OURS)
        return length


def _least(frame: memoryview) -> int:
    """Return how many bytes a frame with the traits of a good one must have, to be as good."""
    flags, kind, _, _, start, offset = HEADER.unpack_from(frame)
    if kind == GSO_NONE:
        return max(_TCP_AT, VNET_HEADER + start + offset + 2) if flags & NEEDS_CSUM else _TCP_AT
    return _TCP_AT + UDP_HEADER + 1 if kind == GSO_UDP_L4 else _LEAST_TCP
