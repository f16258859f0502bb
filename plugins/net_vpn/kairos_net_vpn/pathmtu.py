"""Finds the largest datagram that a path carries whole, by datagrams that may not be fragmented. Pure.

No ICMP message is believed or needed: what is acknowledged fits, what is lost twice does not (RFC 8899, the idea and
its names). Data goes on meanwhile, in datagrams that may be fragmented; so a path that shrinks is slow until the
next search, and not dead.
"""

from __future__ import annotations

FLOOR, CEILING = 1280, 9000
"""The least path MTU that is thought of (RFC 8200, section 5), and the greatest that Ethernet is configured for."""
LADDER = (1280, 1320, 1340, 1360, 1380, 1400, 1420, 1440, 1460, 1480, 1492, 1500, 1508, 9000)
"""Path MTUs tried at once: those of Ethernet, PPPoE and tunnels in tunnels; 1508 tells 1500 from all that is wider.
29 KB in all, and 10 KB for the second try of the last two."""
SHARE = 128
"""An uncertainty below this part of the size is not worth another round: 0.8 %."""
SPLIT = 8
"""Sizes tried in each further round."""
WAIT = 0.75
"""Seconds for an answer. Raising it bears slower paths, and delays the result, twice in each round."""
AGAIN = 600.0
"""Seconds until a path is searched again: it may have become wider (RFC 8899, PMTU_RAISE_TIMER)."""
PAUSE = 10.0
"""Seconds between two searches for which there is a reason."""
NEVER = float("inf")


class Search:
    """One path's search; the sizes are path MTUs, from IP header to payload."""

    __slots__ = ("_high", "_low", "_started", "_tried", "_waiting", "due", "found", "is_idle")

    def __init__(self) -> None:
        self.due = NEVER
        """When to call `sizes_to_probe`."""
        self.found: int | None = None
        """The path MTU; None while nothing is known."""
        self._low, self._high = FLOOR - 1, CEILING + 1
        self._waiting: set[int] = set()
        self._tried = 0
        self._started = -NEVER
        self.is_idle = True
        """Whether no search has been made on this path."""

    def start(self, now: float) -> None:
        """Begin anew, unless it was begun just now; what was found holds until there is something better."""
        if now < self._started + PAUSE:
            return
        self._started = self.due = now
        self.is_idle = False
        self._low, self._high = FLOOR - 1, CEILING + 1
        self._waiting, self._tried = set(), 0

    def forget(self) -> None:
        """The path has become another."""
        self.due, self.found, self._started, self.is_idle = NEVER, None, -NEVER, True

    def rest(self) -> None:
        """Search again when data flows again; what was found holds."""
        self.due, self._started, self.is_idle = NEVER, -NEVER, True

    def has_arrived(self, size: int) -> None:
        """A datagram of this size was acknowledged."""
        self._waiting.discard(size)
        self._low = max(self._low, size)
        if size >= self._high:  # it came after all
            self._high = CEILING + 1
        self.found = max(self.found or 0, self._low)

    def sizes_to_probe(self, now: float) -> tuple[int, ...]:
        """Return the sizes to send now; `due` is then when to ask again."""
        lost = {size for size in self._waiting if size > self._low}
        if lost and self._tried == 1:
            self._tried = 2
            self.due = now + WAIT
            return tuple(sorted(lost))
        if self._tried:
            if self._low < FLOOR:  # the path is dead, which says nothing about its width
                self.due, self._waiting, self._tried = now + PAUSE, set(), 0
                return ()
            self._high = min(lost, default=self._high)
            self.found = self._low
            if self._high - self._low <= self._low // SHARE or self._low == CEILING:
                self.due, self._waiting, self._tried = now + AGAIN, set(), 0
                self._low, self._high = FLOOR - 1, CEILING + 1
                return ()
        sizes = LADDER if not self._tried else _between(self._low, self._high)
        self._waiting, self._tried = set(sizes), 1
        self.due = now + WAIT
        return tuple(sizes)


def _between(low: int, high: int) -> tuple[int, ...]:
    """Return sizes that part what lies between two equally."""
    return tuple(dict.fromkeys(low + (high - low) * i // (SPLIT + 1) for i in range(1, SPLIT + 1) if high - low > i))
