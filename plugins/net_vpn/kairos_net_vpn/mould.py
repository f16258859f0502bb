"""How a super-packet is cut into groups and datagrams, and all of their headers but the number. Pure.

Those of a stream are of one size, mostly, and so cut alike: lanes.py keeps their mould. `shape.py` is the same for the
receiver.
"""

from __future__ import annotations

from typing import NamedTuple

from kairos_net_vpn.datagrams import Overlay


class Cut(NamedTuple):
    """How a super-packet is cut: datagrams in a group, bytes of headers, of a slice, of a group's plaintext."""

    members: int
    header: int
    stride: int
    plain: int


class Here(NamedTuple):
    """Where the parts of a record of one group are in the slot that its frame lies in.

    `first` is the first half of its first header, `firsts` of the others'. The rest says where: the first
    header's beginning, the plaintext, the ciphertext, all of it; and the `overlay`.
    """

    first: bytes
    firsts: memoryview
    head: int
    plain: slice
    sealed: slice
    wire: slice
    overlay: Overlay


class Mould(NamedTuple):
    """What super-packets of one length that are cut alike have in common.

    `firsts` is the first half of each datagram's header, `second` the first two bytes of the other half. A record of
    one group is sealed `here`, where it lies.
    """

    cut: Cut
    groups: int
    datagrams: int
    size: int
    second: int
    firsts: memoryview
    here: Here | None
