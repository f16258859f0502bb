"""The headers of a record that is cut like one before it: all of them known but for the number. Pure.

The super-packets of a stream are of one size and so cut alike. To compare all headers at once is a third of the work
of reading them.
"""

from __future__ import annotations

from kairos_net_vpn.batch import HEADER_SIZE
from kairos_net_vpn.runs import Run

MOST = 16
"""Shapes that are remembered of a session, 2 KB each. Raising it helps streams with many sizes."""


class Shape:
    """What the headers of a whole record were, in a batch of datagrams with `chunk` bytes of body."""

    __slots__ = ("_end", "_firsts", "_stride", "chunk", "groups", "kind", "members", "number", "stride")

    def __init__(self, run: Run) -> None:
        head, place = run.head, run.nonce - 4
        self.members, self.stride, self.kind, self.groups = head.members, head.stride, head.kind, run.groups
        self.chunk = run.step // head.members
        self._end = 2 * run.datagrams
        headers = memoryview(run.headers)[place : place + HEADER_SIZE * run.datagrams]  # behind them may be anything
        self._firsts = headers.cast("Q")[::2].tobytes()
        self._stride = head.stride.to_bytes(2, "little")
        self.number = run.counter
        """The counter of the first group of the record that was compared last."""

    def fits(self, words: memoryview) -> bool:
        """Say whether headers, in words of 8 bytes, begin with those of a record of this shape.

        Its number is then in `number`.
        """
        second = words[1:2].tobytes()
        if (
            words[: self._end : 2].tobytes() != self._firsts
            or words[1 : self._end : 2].tobytes() != second * (self._end // 2)
            or second[:2] != self._stride
        ):
            return False
        self.number = int.from_bytes(second[2:], "little")
        return True


class Shapes:
    """The shapes that a session has had lately, by how many datagrams they have."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, Shape] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, datagrams: int) -> Shape | None:
        return self._known.get(datagrams)

    def learn(self, run: Run) -> None:
        """Remember the shape of a run, if it is a whole record in one batch."""
        if run.head.group or not run.is_last or not run.nonce_step:
            return
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[run.datagrams] = Shape(run)
