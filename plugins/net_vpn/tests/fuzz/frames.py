"""What a frame for the device must be like, whoever it is from."""

from __future__ import annotations

from collections.abc import Sequence

from kairos_net_vpn.vnet import GSO_NONE, HEADER, NEEDS_CSUM, TCP, UDP, VNET_HEADER, check_super


def check_frame(frame: bytes) -> tuple[bytes, bytes]:
    """Return source and destination of a frame; fail when it is not sound.

    Its packet is as long as it says, and its virtio header asks the kernel for nothing outside of the packet's payload.
    """
    packet = frame[VNET_HEADER:]
    version = packet[0] >> 4
    assert version in (4, 6), "no IP packet"
    header = 20 if version == 4 else 40
    assert len(packet) >= header, "no whole header"
    length = int.from_bytes(packet[2:4]) if version == 4 else 40 + int.from_bytes(packet[4:6])
    assert length == len(packet), "its length is not what it says"
    flags, kind, _, _, start, offset = HEADER.unpack_from(frame)
    if kind != GSO_NONE:
        check_super(memoryview(frame))
    elif flags & NEEDS_CSUM:
        least = (packet[0] & 15) * 4 if version == 4 else 40
        assert start >= max(header, least), "a checksum that begins in the IP header"
        assert start + offset + 2 <= len(packet), "a checksum behind the packet"
    if version == 4:
        return packet[12:16], packet[16:20]
    return packet[8:24], packet[24:40]


def is_made_of(frame: bytes, sealed: Sequence[bytes]) -> bool:
    """Say whether a frame is part of one plaintext, or its payload made of a piece of each of some.

    The headers of a super-packet are mended, and the MSS of a SYN may be lowered: so they are not compared.
    """
    if any(frame in plain for plain in sealed):
        return True
    payload = frame[_payload(frame) :]
    pieces = 0
    while payload and pieces <= len(sealed):
        most = max(_common(payload, plain) for plain in sealed) if sealed else 0
        if not most:
            return False
        payload, pieces = payload[most:], pieces + 1
    return pieces <= len(sealed)


def _payload(frame: bytes) -> int:
    """Return where the payload of a frame begins, behind all that may be mended."""
    packet = frame[VNET_HEADER:]
    at, protocol = ((packet[0] & 15) * 4, packet[9]) if packet[0] >> 4 == 4 else (40, packet[6])
    flags, _, _, _, start, offset = HEADER.unpack_from(frame)
    if flags & NEEDS_CSUM:
        at, protocol = start, {16: TCP, 6: UDP}.get(offset, protocol)
    if protocol == TCP and at + 12 < len(packet):
        return VNET_HEADER + at + (packet[at + 12] >> 4) * 4
    return VNET_HEADER + at + (8 if protocol == UDP else 0)


def _common(payload: bytes, plain: bytes) -> int:
    """Return how many bytes from the payload's first on are somewhere in a plaintext."""
    low, high = 0, min(len(payload), len(plain))
    while low < high:
        middle = (low + high + 1) // 2
        if payload[:middle] in plain:
            low = middle
        else:
            high = middle - 1
    return low
