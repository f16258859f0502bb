"""What a receiver asks to have sent again: the datagrams that a group of a super-packet lacks. Pure.

Where now and then a datagram is lost, by a radio say, a TCP stream inside would take it for congestion and slow down.
So what is lost is asked for at once, by the evidence that something behind it has come, and the group is opened when
it is whole. What came behind it waits for that, where answers come soon (`order.py`), and TCP sees no loss at all.

Congestion must not be hidden from TCP in this way. What is a sign of it is not asked for:

- much loss: what may be asked for is a share of what has come (`SHARE`);
- losses in a row, as where a queue overflows (`MOST_MISSING`);
- any loss while a queue stands on the path, as where a router drops early: when for `STANDING` all answers took `QUEUE`
  longer than the quickest, nothing is asked for in `REST`. A queue that comes and goes is a burst, or a processor that
  had other work.
"""

from __future__ import annotations

from collections.abc import Iterable

from kairos_net_vpn.loss import Losses
from kairos_net_vpn.parts import Parts
from kairos_net_vpn.runs import Gatherer
from kairos_net_vpn.sides import MOST_WANTED, Wanted

SHARE = 1 / 32
"""Datagrams that may be asked for, for each that came. Raising it repairs worse paths, and hides more congestion."""
CREDIT = 64.0
"""Datagrams at most that may be asked for at a moment; a session begins with them."""
MOST_MISSING = 8
"""Datagrams of one group. Raising it repairs longer bursts, which are rather congestion."""
TRIES = 3
"""Times a datagram is asked for. With one in a hundred lost, and questions too, one in ten thousand groups fails at the
second; each try costs a datagram."""
QUEUE = 0.010
"""Seconds of standing queue that end the asking. CoDel (RFC 8289) begins to drop at 5 ms of it; lowering this asks less
on a busy machine, where datagrams wait in sockets. Raising it lets TCP fill queues that are meant to be short."""
STANDING = 0.1
"""Seconds for which all answers must be late (the interval of RFC 8289). Raising it takes longer bursts for no sign of
congestion, and fills a queue for so much longer."""
REST = 1.0
"""Seconds without a question after that."""
PATIENCE = 0.010
"""Seconds that what came later waits for an answer. Raising it keeps the order on longer paths too, and delays all TCP
flows between two nodes by so much when one loses something. No answer is given up before: a machine with other work may
take some milliseconds to it."""
LONGEST = 0.040
"""Seconds of the same where answers usually take longer on a path that is short: the machines at its ends are busy. A
TCP that sees something late by more than its round trip sends it again; this is well below what it takes for a loss of
all (200 ms)."""
SLACK = 0.0005
"""Seconds beyond twice the usual time until a question counts as lost."""
SLOWEST = 0.25
"""Seconds that an answer takes at most, and while nothing is known. Raising it asks later where answers are lost."""
NEVER = float("inf")


class Repairs:
    """What one session has asked for, and may."""

    __slots__ = (
        "_asked", "_came", "_counted", "_credit", "_due", "_first", "_late_since", "_least", "_patience",
        "_rests_until", "_turn", "_usual", "_waits_until", "term",
    )  # fmt: skip

    def __init__(self) -> None:
        self._credit = CREDIT
        self._counted = 0
        self._turn = self._came = 0
        self._asked: dict[int, Parts] = {}
        """What was asked for and nothing is known of the answer, by the turn: so the oldest is first."""
        self._due = NEVER
        """When the oldest may count as lost."""
        self._first: Parts | None = None
        """What `first_awaited` found, and until when it is so."""
        self._waits_until = 0.0
        self._least = NEVER
        """How quick an answer is on an empty path: near the least, where no single one counts for much."""
        self._expect(SLOWEST)
        self._late_since = NEVER
        """Since when no answer has come in time; NEVER when the last one did."""
        self._rests_until = 0.0

    def _expect(self, usual: float) -> None:
        """Take this for what an answer usually takes, in seconds."""
        self._usual = usual
        self.term = 2 * usual + SLACK
        """Seconds after which a question counts as lost."""
        self._patience = min(max(PATIENCE, self.term), LONGEST)

    def choose(self, gatherer: Gatherer, losses: Losses, now: float) -> list[Wanted]:
        """Return what to ask for now, MOST_WANTED at most.

        Answers come in the order of questions. So a question, or its answer, was lost when a later one was answered, or
        when it takes much longer than usual; then it is asked again, with all that the group lacks. A group of which
        more is missing than may be asked for is left alone: its datagrams may only have been overtaken.
        """
        if now < gatherer.due:
            return []
        undecided, gatherer.undecided = gatherer.undecided, []
        if gatherer.repaired:
            self._take_answers(gatherer.repaired, now)
        if now < self._rests_until:
            gatherer.undecided, gatherer.due = undecided, self._rests_until
            return []
        if now >= self._due:
            undecided = self._take_lost(now) + undecided
        if not undecided:
            gatherer.due = self._due
            return []
        self._credit = min(CREDIT, self._credit + (losses.datagrams - self._counted) * SHARE)
        self._counted = losses.datagrams
        wanted: list[Wanted] = []
        for parts in undecided:
            if parts.is_over:
                continue
            is_late = parts.tries > 0 and now >= parts.asked_at + self.term
            missing = parts.missing(is_passed=is_late or losses.highest > parts.counter)
            if missing and parts.tries == TRIES and now >= parts.first_asked_at + self._patience:
                self._expect(min(2 * self._usual, SLOWEST))
                gatherer.give_up(parts.name)
            elif not missing or parts.tries == TRIES or len(wanted) == MOST_WANTED:
                gatherer.undecided.append(parts)
            elif len(missing) > min(MOST_MISSING, self._credit):
                parts.is_hopeless = True
                self._waits_until = 0.0
            else:
                wanted.append(self._ask(parts, missing, now))
        gatherer.due = 0.0 if gatherer.undecided else self._due
        return wanted

    def _take_answers(self, repaired: list[Parts], now: float) -> None:
        """Take what was repaired out of what was asked for, and learn from it."""
        for parts in repaired:
            self._asked.pop(parts.turn, None)
            self._came = max(self._came, parts.turn)
            self._judge(parts, now)
        repaired.clear()
        if next(iter(self._asked), NEVER) < self._came:
            self._due = 0.0

    def _take_lost(self, now: float) -> list[Parts]:
        """Take away and return what was asked for in vain."""
        asked, lost = self._asked, []
        self._due = NEVER
        while asked:
            turn, parts = next(iter(asked.items()))
            if not parts.is_over:
                due = parts.asked_at + self.term
                if turn > self._came and now < due:
                    self._due = due
                    break
                lost.append(parts)
            del asked[turn]
        return lost

    def _ask(self, parts: Parts, missing: list[int], now: float) -> Wanted:
        """Note a question, and return it."""
        self._turn += 1
        self._credit -= len(missing)
        parts.turn, parts.asked_at, parts.tries = self._turn, now, parts.tries + 1
        if parts.tries == 1:
            parts.first_asked_at = now
        self._asked[self._turn] = parts
        self._due = min(self._due, now + self.term)
        if self._first is None or parts.counter <= self._first.counter:
            self._waits_until = 0.0
        return Wanted(parts.counter - parts.group, parts.group, bytes(missing))

    def first_awaited(self, waiting: Iterable[Parts], now: float) -> int | None:
        """Return the counter of the first group that is worth waiting for; None without one."""
        first = self._first
        if now >= self._waits_until or (first is not None and first.is_over):
            self._first, self._waits_until = first, _ = self._find_first(waiting, now)
        return None if first is None else first.counter

    def _find_first(self, waiting: Iterable[Parts], now: float) -> tuple[Parts | None, float]:
        """Return the first group that is worth waiting for, and until when."""
        first, since = None, now - self._patience
        if self._least <= PATIENCE:
            for parts in waiting:
                if parts.is_awaited and parts.asked_at > since and (first is None or parts.counter < first.counter):
                    first = parts
        return first, NEVER if first is None else first.asked_at + self._patience

    def _judge(self, parts: Parts, now: float) -> None:
        """Learn from an answer how long they take. Of a group that was asked for twice nobody knows which one it is."""
        least, most = now - parts.asked_at, now - parts.first_asked_at
        if least <= 0:
            return  # it was not lost, but overtaken
        if self._least == NEVER:
            self._usual = self._least = most
            self._waits_until = 0.0
        self._expect(self._usual + (most - self._usual) / 8)
        if parts.tries == 1:
            self._least += (least - self._least) / (8 if least < self._least else 256)
        if least <= self._least + QUEUE:
            self._late_since = NEVER
        elif self._late_since == NEVER:
            self._late_since = now
        elif now >= self._late_since + STANDING:
            self._rests_until = now + REST
