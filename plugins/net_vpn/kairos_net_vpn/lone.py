"""A datagram that is one bundle of small packets, cut like one before. Pure.

Acknowledgements come all the time, alone or a few together, and look alike: the same lengths, the same headers but for
what TCP says in them. So the parts of such a datagram stay known as views of the buffer that it is received in, and
one look at what decides whether its frames may come in takes the place of a look at each.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from kairos_net_vpn.datagrams import HEADER_SIZE
from kairos_net_vpn.small import SmallCipher
from kairos_net_vpn.vnet import GSO_NONE, PLAIN_IPV4, VNET_HEADER

MOST = 4
"""Frames in a bundle that is remembered. Raising it remembers bundles that hardly come twice."""
_ENTRY = "H14s5xB2x8s"
"""Of an entry of a bundle: its length, and what decides whether a small IPv4 frame may come in: virtio header, the
first bytes of its packet with its length, protocol, both addresses."""
_LEAST = struct.calcsize("<" + _ENTRY) - 2


class Lone(NamedTuple):
    """Its plaintext, once it was opened (small.Place); its frames, if `traits` of that are those `admitted` before."""

    plain: memoryview
    fails: Callable[..., object]
    arguments: tuple[Any, ...]
    traits: struct.Struct
    admitted: tuple[bytes | int, ...]
    frames: tuple[memoryview, ...]


_NOTHING = struct.Struct("")


def cut(octets: memoryview, length: int, cipher: SmallCipher) -> Lone:
    """Return the parts of a datagram of `length` bytes at the beginning of a buffer; nothing is known of its frames."""
    return Lone(*cipher.place(octets, 4, HEADER_SIZE, length), _NOTHING, (), ())


def recognise(lone: Lone, frames: Sequence[memoryview]) -> Lone | None:
    """Return the same for all that are as this one, whose frames were admitted as they are.

    None where more than their traits decided, or there is more in it.
    """
    if not 0 < len(frames) <= MOST or not all(map(_is_simple, frames)):
        return None
    traits = _traits_of(tuple(map(len, frames)))
    if traits.size != len(lone.plain):
        return None
    return lone._replace(traits=traits, admitted=traits.unpack_from(lone.plain), frames=tuple(frames))


def _is_simple(frame: memoryview) -> bool:
    return len(frame) >= _LEAST and frame[1] == GSO_NONE and frame[VNET_HEADER] == PLAIN_IPV4


@lru_cache(maxsize=64)
def _traits_of(sizes: tuple[int, ...]) -> struct.Struct:
    return struct.Struct("<" + "".join(f"{_ENTRY}{size - _LEAST}x" for size in sizes))
