"""The headers of a record that is cut like one before it: all of them known but for the number. Pure.

The super-packets of a stream are of one size and so cut alike. To compare all headers at once is a third of the work
of reading them.
"""

from __future__ import annotations

from typing import NamedTuple

from kairos_net_vpn.datagrams import HEADER_SIZE, WORD, Overlay, Received, overlay
from kairos_net_vpn.parts import MAX_MEMBERS, Piece, most_in
from kairos_net_vpn.runs import Run

MOST = 16
"""Shapes that are remembered of a session, 2 KB each. Raising it helps streams with many sizes."""

_FIRST, _SECOND = slice(0, 1), slice(1, 2)
_MEMBER = 6
_MEMBERS = bytes(range(MAX_MEMBERS))


class Alike(NamedTuple):
    """Where the parts of a record of one group, and of one shape, are in a buffer, as views of it.

    The `second` half of the first header; halves of the others - there are `others`, the first halves of which were
    `firsts` - and what they cover (`kept`); the nonce, the ciphertext, and then the frame.
    """

    shape: Shape
    others: int
    firsts: bytes
    second: memoryview
    first_halves: memoryview
    second_halves: memoryview
    first_kept: memoryview
    second_kept: memoryview
    nonce: memoryview
    sealed: memoryview
    frame: memoryview


class Shape:
    """What the headers of a whole record were, in `datagrams` datagrams of `size` bytes from the buffer's first on."""

    __slots__ = (
        "_firsts",
        "_most_last",
        "_name",
        "_second_halves",
        "_stride",
        "datagrams",
        "first_halves",
        "groups",
        "kind",
        "number",
        "places",
        "size",
        "step",
        "stride",
    )

    def __init__(self, run: Run) -> None:
        head, count = run.head, run.datagrams
        self.stride, self.kind, self.groups = head.stride, head.kind, run.groups
        self.size, self.datagrams = run.size, count
        self.step = run.step
        """Bytes from one group to the next."""
        self.places: list[tuple[int, Overlay]] = []
        """Of each group: how many bytes before its ciphertext, from its beginning on; and its overlay."""
        for first in range(0, count, head.members):
            members = min(head.members, count - first)
            self.places.append((HEADER_SIZE * members, overlay(first * run.size, run.size, members)))
        words, end = run.size // WORD, count * run.size // WORD
        self.first_halves, self._second_halves = slice(0, end, words), slice(1, end, words)
        headers = memoryview(run.headers)[run.nonce - 4 :][: HEADER_SIZE * count]  # behind them may be anything
        self._firsts = headers.cast("Q")[::2].tobytes()
        self._name = self._firsts[:WORD]
        self._stride = head.stride.to_bytes(2, "little")
        self._most_last = min(run.size, most_in(count) - (count - 1) * run.size)
        """Bytes that the last datagram may have."""
        self.number = run.counter
        """The counter of the first group of the record that was compared last."""

    def fits(self, words: memoryview) -> bool:
        """Say whether a buffer begins with the headers of a record of this shape. Its number is then in `number`."""
        second = words[_SECOND].tobytes()
        if (
            words[self.first_halves].tobytes() != self._firsts
            or words[self._second_halves].tobytes() != second * self.datagrams
            or second[:2] != self._stride
        ):
            return False
        self.number = int.from_bytes(second[2:], "little")
        return True

    def alike(self, wire: Received, length: int) -> Alike:
        """Return where the parts of such a record are in a buffer, if it is one group; its frame has `length` bytes."""
        octets, words, (begin, place) = wire.octets, wire.words, self.places[0]
        return Alike(
            self,
            self.datagrams - 1,
            self._firsts[WORD:],
            octets[WORD:HEADER_SIZE],
            words[place.first_halves],
            words[place.second_halves],
            words[place.first_kept],
            words[place.second_kept],
            octets[4:HEADER_SIZE],
            octets[begin : wire.length],
            octets[begin : begin + length],
        )

    def piece_in(self, wire: Received) -> Piece | None:
        """Return what a receive is that holds some datagrams of a record of this shape, of one group; else None.

        A kernel that puts datagrams together begins anew behind one that was lost, in IPv4, and not in IPv6.
        """
        words, count, datagrams, size = wire.words, wire.count, self.datagrams, self.size
        second = words[_SECOND].tobytes()
        if self.groups > 1 or count >= datagrams or second[:2] != self._stride:
            return None
        if count == 1:
            firsts = words[_FIRST].tobytes()
        else:
            end, step = count * size // WORD, size // WORD
            firsts = words[:end:step].tobytes()
            if wire.size != size or words[1:end:step].tobytes() != second * count:
                return None
        first = firsts[_MEMBER]
        came = _MEMBERS[first : first + count]
        if firsts != self._firsts[WORD * first : WORD * (first + count)]:
            came = firsts[_MEMBER::WORD]
            alike = bytearray(firsts)
            alike[_MEMBER::WORD] = bytes(count)
            if alike != self._firsts[:WORD] * count or bytes(sorted(set(came))) != came or came[-1] >= datagrams:
                return None
        if wire.tail != size if came[-1] < datagrams - 1 else not HEADER_SIZE <= wire.tail <= self._most_last:
            return None
        return Piece(self._name + second, int.from_bytes(second[2:], "little"), came, datagrams, size)

    def lay(self, words: memoryview) -> None:
        """Lay the headers of the record that was compared last over it again."""
        second = self._stride + self.number.to_bytes(6, "little")
        words[self.first_halves] = memoryview(self._firsts).cast("Q")
        words[self._second_halves] = memoryview(second * self.datagrams).cast("Q")


class Shapes:
    """The shapes that a session has had lately, by how many datagrams they have."""

    __slots__ = ("_known", "latest")

    def __init__(self) -> None:
        self._known: dict[int, Shape] = {}
        self.latest: Shape | None = None
        """The one that was used last."""

    def __len__(self) -> int:
        return len(self._known)

    def find(self, datagrams: int) -> Shape | None:
        latest = self.latest
        return latest if latest is not None and latest.datagrams == datagrams else self._known.get(datagrams)

    def learn(self, run: Run) -> None:
        """Remember the shape of a run that is a whole record, at the beginning of a receive, in whole words."""
        if run.head.group or not run.is_last or not run.nonce_step or run.start or run.size % WORD:
            return
        self.use(Shape(run))

    def use(self, shape: Shape) -> None:
        """Note that a record has come that is of this shape. The one that was used the longest ago may be forgotten."""
        self._known.pop(shape.datagrams, None)
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[shape.datagrams] = self.latest = shape
