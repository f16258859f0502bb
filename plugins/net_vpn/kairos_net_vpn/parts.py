"""A group whose datagrams come apart: what has come of it lies where it belongs. Pure.

The buffers are used again and again. The allocator would give 60 kB back to the kernel each time, and take as long to
get them anew as it takes to fill them.
"""

from __future__ import annotations

from collections.abc import Sequence

from kairos_net_vpn.datagrams import HEADER_SIZE, Buffer, can_overlay
from kairos_net_vpn.drops import Refused, VpnDrop

MAX_GROUP = 1 << 16
"""Bytes of a group's ciphertext. Bounds what a receiver must hold for one that comes in parts."""
MAX_MEMBERS = 64
"""Datagrams in a group."""
MOST_HELD = MAX_GROUP + MAX_MEMBERS * HEADER_SIZE
SPARE = 4
"""Buffers that are kept for the next group. Raising it spares allocations where many groups wait at once."""


class Buffers:
    """Buffers for one group each. Who gives one back may still read it until the next is taken."""

    __slots__ = ("_spare",)

    def __init__(self) -> None:
        self._spare: list[Buffer] = []

    def take(self) -> Buffer:
        return self._spare.pop(0) if self._spare else Buffer(MOST_HELD)

    def give_back(self, buffer: Buffer) -> None:
        if len(self._spare) < SPARE:
            self._spare.append(buffer)


class Parts:
    """What has come of a group with `members` datagrams, with their headers."""

    __slots__ = (
        "_has",
        "_members",
        "_tail",
        "asked_at",
        "buffer",
        "counter",
        "first_asked_at",
        "group",
        "is_hopeless",
        "is_super",
        "length",
        "size",
        "tries",
        "turn",
    )

    def __init__(self, members: int, counter: int, group: int, *, is_super: bool, buffer: Buffer) -> None:
        self._members = members
        self._has = 0
        """A bit for each member that has come."""
        self.size = self.length = 0
        """Bytes in each member but the last, and in all; 0 while not known."""
        self._tail = b""
        """The last member, if it came alone: where it belongs is known when another has come."""
        self.buffer = buffer
        self.counter, self.group, self.is_super = counter, group, is_super
        self.is_hopeless = False
        """Whether nothing of it is asked for any more: it becomes whole by itself, or gives its place to others."""
        self.tries = 0
        """How often something of it was asked for again; the last time in this turn, and when."""
        self.turn, self.asked_at, self.first_asked_at = 0, 0.0, 0.0

    def __len__(self) -> int:
        """Return how many members have come."""
        return self._has.bit_count()

    @property
    def is_whole(self) -> bool:
        return self._has == (1 << self._members) - 1

    @property
    def is_awaited(self) -> bool:
        """Whether an answer may still come."""
        return self.tries > 0 and not self.is_hopeless

    def has_any(self, first: int, count: int) -> bool:
        """Say whether one of these members has come."""
        return bool(self._has >> first & ((1 << count) - 1))

    def lacks_only(self, member: int) -> bool:
        """Say whether a member is all that lacks, and where it belongs is known."""
        return self._has ^ 1 << member == (1 << self._members) - 1 and self.size > 0

    def missing(self, *, is_passed: bool) -> list[int]:
        """Return the members that are lost: those before one that has come; all, if later groups have come."""
        end = self._members if is_passed else self._has.bit_length()
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
        is_end = first + count == self._members
        if is_end and count == 1:
            self._tail = bytes(wire)
        else:
            if self.size not in (0, size) or not (is_end or len(wire) == count * size):
                raise Refused(VpnDrop.MALFORMED)
            at, end = first * size, first * size + len(wire)
            if not can_overlay(size, self._members) or max(end, (self._members - 1) * size) > self._most:
                raise Refused(VpnDrop.MALFORMED)
            self.buffer.octets[at:end] = wire
            self.size = size
            if is_end:
                self.length = end
        self._has |= ((1 << count) - 1) << first

    def fill(self, wire: memoryview, size: int, lacking: Sequence[int]) -> None:
        """Take all members but some, in order, into an empty group; each but its last with `size` bytes.

        The caller has seen a group of that size that was whole.
        """
        octets, has = self.buffer.octets, (1 << self._members) - 1
        taken = place = 0
        for member in lacking:
            has ^= 1 << member
            at = member * size
            if at > place:
                octets[place:at] = wire[taken : taken + at - place]
                taken += at - place
            place = at + size
        if taken < len(wire):
            self.length = place + len(wire) - taken
            octets[place : self.length] = wire[taken:]
        self.size, self._has = size, has

    def close(self) -> None:
        """Put a whole group together in its buffer. Raises Refused (malformed) for one with more than MAX_GROUP."""
        if self._tail:
            at = (self._members - 1) * self.size
            self.length = at + len(self._tail)
            if self.length > self._most:
                raise Refused(VpnDrop.MALFORMED)
            self.buffer.octets[at : self.length] = self._tail

    @property
    def _most(self) -> int:
        return MAX_GROUP + self._members * HEADER_SIZE
