"""Super-packets in the order in which they were sent, while an earlier one is being repaired. Pure.

TCP takes what comes late for lost, and sends it again. So what came behind a group that was asked for again waits for
it, where answers come soon.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

MOST = 64
"""Super-packets that wait. Raising it keeps the order of a faster stream, and holds 64 KiB more for each."""


class Order(list[tuple[int, bytes]]):
    """What waits in one session, each with the counter of its last group: a list, so that to ask whether it is empty
    costs a packet nothing."""

    __slots__ = ()

    def pass_on(self, frame: memoryview, counter: int, before: int | None) -> Iterator[memoryview]:
        """Yield what may go on when a super-packet has come, whose last group has this counter.

        What is not behind the group `before`, all without one. A frame that waits is copied.
        """
        if before is not None and counter > before:
            insort(self, (counter, bytes(frame)))
        else:
            yield frame
        if self:
            yield from self.release(before)

    def release(self, before: int | None) -> Iterator[memoryview]:
        """Yield what has waited long enough."""
        while self and (before is None or self[0][0] < before or len(self) > MOST):
            yield memoryview(self.pop(0)[1])
