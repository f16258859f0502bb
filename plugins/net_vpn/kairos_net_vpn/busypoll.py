"""Busy polling: look again for a while before going to sleep, since a reply is often near.

To be woken takes longer than to handle a packet, more so in a virtual machine, whose idle processor has gone back to
its host. The kernel (net.core.busy_poll) and hypervisors (KVM's halt_poll_ns) do the same. It gives the processor to
whoever else wants it between two looks, and has a budget, so that nobody pays for it who has other work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

LONGEST = 300e-6
"""Seconds to look. Raising it catches replies of slower peers, and costs the processor that much for each packet that
has none. Two machines on a LAN, both asleep, answer in 200 to 300 us."""
BRIEF = 150e-6
"""Seconds of work after which there was more to do than one packet, so that nobody waits for one reply."""
SHARE = 0.05
"""Part of all time that may be spent on looking for replies, beside as much again as was spent on single packets."""
PURSE = 0.01
"""Seconds of looking that can be saved up."""

NEAR = 100e-6
"""Seconds to look for the next part of a stream. Raising it stays awake for slower streams."""
HOPE = 0.01
"""Part of all time that may be spent on looking in vain for parts of a stream, beside as much again as was spent on
looks that found one. Raising it costs slower streams as much more, lowering it finds out later that one is fast."""
OTHERS = 20e-6
"""Seconds that giving way takes at least where somebody else wants the processor. Lowering it takes interrupts for
that, raising it looks where others could work."""
BREATH = 1
"""Milliseconds without a part of a stream after which it may be over; as short as a wait of poll can be."""

NOBODY = -1

Events = list[tuple[int, int]]
"""File descriptor and mask of each, as of select.poll."""


class BusyPoll:
    """Waits as `poll` does (select.poll: milliseconds, less than 0 for ever), but stays awake where a reply is likely.

    That is after one packet, and in a stream that comes in if its parts are near: to wake whoever sleeps is work for
    each of them, the sender's where both are on one machine. Beside others who want the processor it sleeps all the
    same, since then parts that come meanwhile are better handled together.
    """

    def __init__(
        self,
        poll: Callable[[float], Events],
        clock: Callable[[], float] = time.perf_counter,
        give_way: Callable[[], object] = os.sched_yield,
    ) -> None:
        self._poll, self._clock, self._give_way = poll, clock, give_way
        self.woke = clock()
        """When the last wait ended."""
        self._worked = 0.0
        self._purse, self._counted = PURSE, self.woke
        """What may be spent on looking for replies, and when that was."""
        self._savings, self._saved_at = PURSE, self.woke
        """The same of looking for parts of a stream."""
        self._source = NOBODY
        self._events: Events = []
        """What the last wait returned, and when the one before it ended."""
        self._woke_before = self.woke

    def stay(self) -> Events:
        """Wait in a stream that comes in, for a short while, awake if its parts are near."""
        events = self._poll(0) or self._look_near() or self._poll(BREATH)
        self.woke, self._events = self._clock(), []
        return events

    def sleep(self) -> Events:
        """Wait in a stream that goes out, for a short while and without looking: who writes it is on this machine."""
        events = self._poll(BREATH)
        self.woke, self._events = self._clock(), []
        return events

    def wait(self, timeout: float) -> Events:
        """Return what is ready, at once or after a while; nothing when there is nothing within so many seconds.

        Less than 0 waits for ever.
        """
        events = self._look(timeout) if self._was_single() else None
        if not events:
            events = self._poll(timeout * 1000)
        self._woke_before, self.woke, self._events = self.woke, self._clock(), events
        return events

    def _look_near(self) -> Events:
        """Look for the next part of a stream, while nobody else wants the processor and the budget lasts."""
        began = now = self._clock()
        savings = min(PURSE, self._savings + (began - self._saved_at) * HOPE)
        events: Events = []
        if savings < NEAR:
            return events
        until = began + NEAR
        while now < until:
            self._give_way()
            events = self._poll(0)
            before, now = now, self._clock()
            if now - before > OTHERS:
                now = before  # what others took was no look
                break
            if events:
                break
        spent = now - began
        self._saved_at, self._savings = now, savings + spent if events else savings - spent
        return events

    def _was_single(self) -> bool:
        """Say whether one packet came last. It is asked before a wait, and not at its end, when a packet waits."""
        before, self._source = self._source, self._events[0][0] if len(self._events) == 1 else NOBODY
        is_other = self._source != before or self.woke - self._woke_before >= LONGEST
        return self._source != NOBODY and is_other

    def _look(self, timeout: float) -> Events | None:
        """Look until something is there, or the time or the budget is over; not at all after much work."""
        began = self._clock()
        worked = began - self.woke
        if worked >= BRIEF:
            return None
        self._worked += worked
        if events := self._poll(0):
            return events
        self._purse = min(PURSE, self._purse + (began - self._counted) * SHARE + self._worked)
        self._counted, self._worked = began, 0.0
        until = began + min(LONGEST, self._purse, LONGEST if timeout < 0 else timeout)
        while (now := self._clock()) < until:
            self._give_way()
            if events := self._poll(0):
                now = self._clock()
                break
        self._purse -= now - began
        return events
