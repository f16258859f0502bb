"""Datagrams of one size, one behind the other: as one system call sends and receives them, in one piece of memory.

A group's ciphertext goes over its datagrams without a copy, and is still one piece for the cipher. Each datagram has a
header of 16 bytes; but for the first one's they lie *over* the ciphertext, and what they cover is kept between the
first header and the ciphertext's beginning:

    written by the cipher   [header 0][ room  ][ ciphertext ........................................ ]
    on the wire             [header 0][ kept  ][ ciphertext ...][header 1]...........[header 2]......]
                            |<--------------- size ------------>|<----- size ------->|<-- the rest ->|

With `members` datagrams the room has 16 x (members - 1) bytes: the first 8 of each header's place, in their order, and
then the last 8. So a few copies with a stride lay all headers of a group, or take them off. That wants sizes that are
multiples of 8, and a room that ends within the first datagram.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import NamedTuple

HEADER_SIZE = 16
WORD = 8
MAX_DATAGRAMS = 128
"""Datagrams in one record. UDP_MAX_SEGMENTS of linux/udp.h, 64 before Linux 6.9."""
MAX_PAYLOAD = 65507
"""Bytes in one UDP datagram over IPv4, and so in one send with UDP_SEGMENT."""
MOST_RECEIVED = 0xFFFF
"""Bytes in one receive. There is room for it, whatever was received before: the kernel throws away the rest."""
MAX_SEGMENTS = 64
"""Datagrams in one send: what every kernel with UDP_SEGMENT takes."""
UDP_SEGMENT = 103
SOL_UDP = socket.IPPROTO_UDP


class Buffer:
    """Memory, as bytes and as words of 8 bytes."""

    __slots__ = ("octets", "words")

    def __init__(self, size: int) -> None:
        """Take at least `size` bytes, all zero."""
        self.octets = memoryview(bytearray(-(-size // WORD) * WORD))
        self.words = self.octets.cast("Q")


WHOLE = slice(None)
"""All of a view: `to[WHOLE] = of` copies."""


class Overlay(NamedTuple):
    """Where in a buffer's words the headers of a group lie, but for its first, and what they cover: halves of each."""

    first_halves: slice
    second_halves: slice
    first_kept: slice
    second_kept: slice


def can_overlay(size: int, members: int) -> bool:
    """Say whether a group may have that many datagrams of that size."""
    return members == 1 or (not size % WORD and HEADER_SIZE * members <= size)


@lru_cache(maxsize=1024)
def overlay(start: int, size: int, members: int) -> Overlay:
    """Return the overlay of a group that begins at byte `start`, a multiple of 8; the caller has asked can_overlay."""
    begin, stride = start // WORD, size // WORD
    end, others = begin + stride * members, members - 1
    return Overlay(
        slice(begin + stride, end, stride),
        slice(begin + stride + 1, end, stride),
        slice(begin + 2, begin + 2 + others),
        slice(begin + 2 + others, begin + 2 + 2 * others),
    )


def keep_covered(words: memoryview, places: Overlay) -> None:
    """Keep what a group's headers are going to cover."""
    words[places.first_kept] = words[places.first_halves]
    words[places.second_kept] = words[places.second_halves]


def uncover(words: memoryview, places: Overlay) -> None:
    """Put back what a group's headers cover. What is kept stays, so it may be done again."""
    words[places.first_halves] = words[places.first_kept]
    words[places.second_halves] = words[places.second_kept]


class Received(Buffer):
    """What one receive brought: `length` bytes, `count` datagrams of `size` bytes, the last of which has `tail`."""

    __slots__ = ("_headers", "count", "length", "size", "tail")

    def __init__(self, room: int = MOST_RECEIVED) -> None:
        super().__init__(room)
        self.set(1, 1)

    @classmethod
    def copy(cls, wire: bytes, size: int) -> Received:
        """Return what is in `wire` as if it had been received."""
        copied = cls(len(wire))
        copied.octets[: len(wire)] = wire
        copied.set(len(wire), size)
        return copied

    def set(self, length: int, size: int) -> None:
        """Note that `length` bytes have come, in datagrams of `size` bytes; both are at least 1."""
        self.length, self.size = length, size
        self.count = count = -(-length // size)
        self.tail = length - (count - 1) * size
        self._headers: bytearray | None = None

    @property
    def headers(self) -> bytearray:
        """The headers side by side, of all datagrams that have one; a copy, made when it is first asked for."""
        if self._headers is None:
            self._headers = self._gather(self.count - (self.tail < HEADER_SIZE))
        return self._headers

    def _gather(self, count: int) -> bytearray:
        headers = bytearray(HEADER_SIZE * count)
        if self.size % WORD:
            for at in range(count):
                start = at * self.size
                headers[HEADER_SIZE * at : HEADER_SIZE * (at + 1)] = self.octets[start : start + HEADER_SIZE]
        elif count:
            stride, words = self.size // WORD, memoryview(headers).cast("Q")
            words[::2] = self.words[: stride * count : stride]
            words[1::2] = self.words[1 : stride * count : stride]
        return headers

    def datagram(self, at: int) -> memoryview:
        """Return one of them."""
        start = at * self.size
        return self.octets[start : start + (self.size if at < self.count - 1 else self.tail)]
