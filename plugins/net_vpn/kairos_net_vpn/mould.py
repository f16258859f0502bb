"""Super-packets that are cut like one before: all is known of their headers but the number. Pure.

Those of a stream are of one size, mostly, and so cut alike. Cutting one anew takes three times as long. `shape.py` is
the same for the receiver.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, TypeAlias

from kairos_net_vpn.vnet import GSO_ECN, GSO_TCPV4, GSO_UDP_L4, PLAIN_IPV4, VNET_HEADER

MOST = 64
"""Moulds that are kept of a session, 1 KB each. Raising it helps streams with many sizes."""
_TRAITS = struct.Struct("<11s8xB22xB")
"""All that decides how a frame with IPv4 is cut: virtio header and the packet's first byte, protocol, and the byte in
which TCP says how long its header is."""
_KINDS = frozenset({GSO_TCPV4, GSO_TCPV4 | GSO_ECN, GSO_UDP_L4})

Key: TypeAlias = tuple[int, int, int, bytes, int, int]


class Cut(NamedTuple):
    """How a super-packet is cut: datagrams in a group, bytes of headers, of a slice, of a group's plaintext."""

    members: int
    header: int
    stride: int
    plain: int


class Mould(NamedTuple):
    """What super-packets that are cut alike have in common.

    `firsts` is the first half of each datagram's header, `second` the first two bytes of the other half.
    """

    cut: Cut
    groups: int
    datagrams: int
    used: int
    firsts: memoryview
    second: int


class Moulds:
    """The moulds that a session has had lately."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Key, Mould] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: Key) -> Mould | None:
        return self._known.get(key)

    def keep(self, key: Key, mould: Mould) -> None:
        """Keep a mould, if its key says all that it depends on."""
        virtio = key[3]
        if virtio[1] in _KINDS and virtio[VNET_HEADER] == PLAIN_IPV4:
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[key] = mould


def key_of(slot: memoryview, length: int, chunk: int, members: int) -> Key:
    """Return what tells moulds apart; the slot has 43 bytes or more, whatever the frame has."""
    start, protocol, at_42 = _TRAITS.unpack_from(slot)
    return length, chunk, members, start, protocol, 0 if slot[1] == GSO_UDP_L4 else at_42
