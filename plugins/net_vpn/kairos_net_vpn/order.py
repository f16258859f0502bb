"""Super-packets in the order in which they were sent, while an earlier one is being repaired. Pure.

TCP takes what comes late for lost, and sends it again. So what came behind a group that was asked for again waits for
it, where answers come soon.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator

MOST = 64
"""Super-packets that wait. Raising it keeps the order of a faster stream, and holds 64 KiB more for each."""


class Order:
    """What waits in one session."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self._held)

    def pass_on(self, frame: memoryview, counter: int, before: int | None) -> Iterator[memoryview]:
        """Yield what may go on when a super-packet has come, whose last group has this counter.

        What is not behind the group `before`, all without one. A frame that waits is copied.
        """
        if before is not None and counter > before:
            insort(self._held, (counter, bytes(frame)))
        else:
            yield frame
        if self._held:
            yield from self.release(before)

    def release(self, before: int | None) -> Iterator[memoryview]:
        """Yield what has waited long enough."""
        held = self._held
        while held and (before is None or held[0][0] < before or len(held) > MOST):
            yield memoryview(held.pop(0)[1])
