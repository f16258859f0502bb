"""Super-packets in the order in which they were sent, while an earlier one is being repaired. Pure.

TCP takes what comes late for lost, and sends it again. So what came behind a group that was asked for again waits for
it, where answers come soon.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

from kairos_net_vpn.datagrams import Buffer
from kairos_net_vpn.parts import Buffers

MOST = 64
"""Super-packets that wait. Raising it keeps the order of a faster stream, and holds 64 KiB more for each."""


class Held(NamedTuple):
    """A super-packet that waits, with the counter of its last group; in a buffer that is its own, or without one."""

    counter: int
    frame: memoryview
    buffer: Buffer | None


_COUNTER = itemgetter(0)


class Order(list[Held]):
    """What waits in one session: a list, so that to ask whether it is empty costs a packet nothing."""

    __slots__ = ("_buffers",)

    def __init__(self, buffers: Buffers) -> None:
        super().__init__()
        self._buffers = buffers

    def hold(self, frame: memoryview, counter: int, buffer: Buffer | None) -> None:
        """Have a frame wait, in the buffer that it lies in and that goes with it; without one it is copied."""
        if buffer is None:
            frame = memoryview(bytes(frame))
        insort(self, Held(counter, frame, buffer), key=_COUNTER)

    def release(self, before: int | None) -> Iterator[memoryview]:
        """Yield what need not wait: what is not behind the group `before`, all without one, and what is too much."""
        while self and (before is None or self[0].counter < before or len(self) > MOST):
            _, frame, buffer = self.pop(0)
            yield frame
            if buffer is not None:
                self._buffers.give_back(buffer)
