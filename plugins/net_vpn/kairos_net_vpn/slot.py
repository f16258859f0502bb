"""The buffer that a frame is read into and sealed in, where it lies. Pure."""

from __future__ import annotations

from typing import NamedTuple

from kairos_net_vpn.datagrams import HEADER_SIZE, Buffer
from kairos_net_vpn.mould import Here
from kairos_net_vpn.parts import MAX_MEMBERS
from kairos_net_vpn.vnet import MAX_FRAME

ROOM = HEADER_SIZE * MAX_MEMBERS
"""Bytes before the frame: for headers, and what they cover."""


class Views(NamedTuple):
    """The parts of a record of one group, as views of the slot that it lies in; see Here."""

    head: memoryview
    nonce: memoryview
    plain: memoryview
    sealed: memoryview
    wire: memoryview
    first_halves: memoryview
    second_halves: memoryview
    first_kept: memoryview
    second_kept: memoryview


class Slot(Buffer):
    """Room for a frame at ROOM; `into` is where a read puts it."""

    __slots__ = ("here", "into", "views")

    def __init__(self) -> None:
        super().__init__(ROOM + MAX_FRAME + (1 << 16))  # records.Sealer pads behind the frame
        self.into = self.octets[ROOM:]
        self.here: Here | None = None
        self.views: Views | None = None
        """The parts of the last record, which was `here`: those of a stream are where the one before was, mostly."""

    def find(self, here: Here) -> Views:
        """Return the parts of a record, and remember them."""
        octets, words, places = self.octets, self.words, here.overlay
        head = octets[here.head : here.head + HEADER_SIZE]
        self.here = here
        self.views = views = Views(
            head,
            head[4:],
            octets[here.plain],
            octets[here.sealed],
            octets[here.wire],
            words[places.first_halves],
            words[places.second_halves],
            words[places.first_kept],
            words[places.second_kept],
        )
        return views
