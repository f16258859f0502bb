"""A group whose datagrams come apart: what has come of it lies where it belongs. Pure.

The buffers are used again and again. The allocator would give 60 kB back to the kernel each time, and take as long to
get them anew as it takes to fill them.
"""

from __future__ import annotations

from typing import NamedTuple

from kairos_net_vpn.datagrams import HEADER_SIZE, Buffer, Received, can_overlay
from kairos_net_vpn.drops import Refused, VpnDrop

MAX_GROUP = 1 << 16
"""Bytes of a group's ciphertext. Bounds what a receiver must hold for one that comes in parts."""
MAX_MEMBERS = 64
"""Datagrams in a group."""
MOST_HELD = MAX_GROUP + MAX_MEMBERS * HEADER_SIZE
SPARE = 64
"""Buffers that are kept for the next group, 4 MB. Raising it spares allocations where more wait at once."""


class Buffers:
    """Buffers for one group each. Who gives one back may still read it until the next is taken."""

    __slots__ = ("_spare",)

    def __init__(self) -> None:
        self._spare: list[Buffer] = []

    def take(self) -> Buffer:
        return self._spare.pop() if self._spare else Buffer(MOST_HELD)

    def give_back(self, buffer: Buffer) -> None:
        """Take a buffer back. The one that was used last is the next: it is in the processor's cache."""
        if len(self._spare) < SPARE:
            self._spare.append(buffer)


class Piece(NamedTuple):
    """Some of a group's datagrams that came in one receive: these of its `members`, in order and each once.

    `name` is the header of the group's first, `size` the bytes in each but its last.
    """

    name: bytes
    counter: int
    came: bytes
    members: int
    size: int


class Parts:
    """What has come of a group with `members` datagrams, with their headers."""

    __slots__ = (
        "_has",
        "_tail",
        "asked_at",
        "buffer",
        "counter",
        "first_asked_at",
        "group",
        "is_hopeless",
        "is_over",
        "length",
        "members",
        "name",
        "size",
        "tries",
        "turn",
    )

    def __init__(self, name: bytes, members: int, counter: int, group: int, buffer: Buffer) -> None:
        """Expect all of a group, which is `group` of its record; `name` is the header of its first datagram."""
        self.name, self.members = name, members
        self._has = 0
        """A bit for each member that has come."""
        self.size = self.length = 0
        """Bytes in each member but the last, and in all; 0 while not known."""
        self._tail = b""
        """The last member, if it came alone: where it belongs is known when another has come."""
        self.buffer = buffer
        self.counter, self.group = counter, group
        self.is_hopeless = False
        """Whether nothing of it is asked for any more: it becomes whole by itself, or gives its place to others."""
        self.is_over = False
        """Whether it waits no longer: it is whole, or was given up."""
        self.tries = 0
        """How often something of it was asked for again; the last time in this turn, and when."""
        self.turn, self.asked_at, self.first_asked_at = 0, 0.0, 0.0

    def __len__(self) -> int:
        """Return how many members have come."""
        return self._has.bit_count()

    @property
    def is_whole(self) -> bool:
        return self._has == (1 << self.members) - 1

    @property
    def is_front(self) -> bool:
        """Whether what has come are its first members, without a gap."""
        return not self._has & self._has + 1

    @property
    def is_awaited(self) -> bool:
        """Whether an answer may still come."""
        return self.tries > 0 and not self.is_hopeless

    def has_any(self, first: int, count: int) -> bool:
        """Say whether one of these members has come."""
        return bool(self._has >> first & ((1 << count) - 1))

    def missing(self, *, is_passed: bool) -> list[int]:
        """Return the members that are lost: those before one that has come; all, if later groups have come."""
        end = self.members if is_passed else self._has.bit_length()
        lacking = ((1 << end) - 1) & ~self._has
        members = []
        while lacking:  # few lack: bit by bit, the lowest first
            lowest = lacking & -lacking
            members.append(lowest.bit_length() - 1)
            lacking ^= lowest
        return members

    def put(self, first: int, count: int, wire: memoryview, size: int) -> None:
        """Take members that follow each other, each but the last of the group with `size` bytes.

        Raises Refused (malformed) for sizes that no group has; what came before stays.
        """
        is_end = first + count == self.members
        if is_end and count == 1:
            self._tail = bytes(wire)
        else:
            if self.size not in (0, size) or not (is_end or len(wire) == count * size):
                raise Refused(VpnDrop.MALFORMED)
            at, end = first * size, first * size + len(wire)
            if not can_overlay(size, self.members) or max(end, (self.members - 1) * size) > self._most:
                raise Refused(VpnDrop.MALFORMED)
            self.buffer.octets[at:end] = wire
            self.size = size
            if is_end:
                self.length = end
        self._has |= ((1 << count) - 1) << first

    def can_take(self, piece: Piece) -> bool:
        """Say whether nothing of a piece has come before, and where it belongs is known of all that has."""
        span = (2 << piece.came[-1]) - (1 << piece.came[0])
        return not self._has & span and self.size in (0, piece.size) and not self._tail

    def take(self, piece: Piece, wire: Received) -> None:
        """Take what a receive brought. The caller has asked `can_take`, and has seen a group that was cut like this."""
        octets, size, came = self.buffer.octets, piece.size, piece.came
        first, end = came[0], came[-1] + 1
        has = (1 << end) - (1 << first)
        at = first * size
        taken = 0
        if end - first > len(came):
            for member in sorted(_ALL[end].difference(came, _ALL[first])):
                has ^= 1 << member
                more = member * size - at
                if more:
                    octets[at : at + more] = wire.octets[taken : taken + more]
                    taken += more
                at += more + size
        octets[at : at + wire.length - taken] = wire.octets[taken : wire.length]
        if end == self.members:
            self.length = at + wire.length - taken
        self.size = size
        self._has |= has

    def close(self) -> None:
        """Put a whole group together in its buffer. Raises Refused (malformed) for one with more than MAX_GROUP."""
        if self._tail:
            at = (self.members - 1) * self.size
            self.length = at + len(self._tail)
            if self.length > self._most:
                raise Refused(VpnDrop.MALFORMED)
            self.buffer.octets[at : self.length] = self._tail

    def take_one(self, member: int, datagram: memoryview) -> bool:
        """Take one of the datagrams; say whether it has come for the first time, and fits where it belongs."""
        size, length, last = self.size, len(datagram), self.members - 1
        at, bit = member * size, 1 << member
        if not size or self._has & bit or self._tail:
            return False
        if member == last:
            if length > size or at + length > self._most:
                return False
            self.length = at + length
        elif length != size or member > last:
            return False
        self.buffer.octets[at : at + length] = datagram
        self._has |= bit
        return True

    @property
    def _most(self) -> int:
        return most_in(self.members)


_ALL = [frozenset(range(members)) for members in range(MAX_MEMBERS + 1)]
"""The members of a group with so many."""


def most_in(members: int) -> int:
    """Return how many bytes a group may have, with its headers."""
    return MAX_GROUP + members * HEADER_SIZE
