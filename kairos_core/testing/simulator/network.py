"""The network between simulated nodes: late, lossy, out of order, twice, or not at all.

All of it follows from the seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from kairos_core.model import Address


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the links are like; chances are per datagram. Streams are whole: TCP repeats what is lost."""

    latency: tuple[float, float] = (0.001, 0.02)  # seconds one way: of the shortest link and of the longest
    jitter: float = 0.5  # of the latency, added by chance; datagrams overtake each other within it
    loss: float = 0.0
    duplicates: float = 0.0
    stragglers: float = 0.0  # datagrams that come much later than those sent after them
    straggling: float = 0.5  # seconds, at most


class Network:
    """Says when what one address sends to another arrives."""

    def __init__(self, random: Random, conditions: Conditions) -> None:
        self.conditions = conditions
        self.sent = 0
        self._random = random
        # By host: each node has its own, and a text remembers its hash.
        self._places: dict[str, float] = {}
        self._slowness: dict[str, float] = {}
        self._sides: dict[str, int] = {}
        self._blocked: set[tuple[str, str]] = set()

    def place(self, address: Address) -> None:
        """Put an address somewhere: the latency of a link grows with the distance."""
        self._places[address.host] = self._random.random()

    def slow_down(self, address: Address, seconds: float) -> None:
        """Let an address be slow: whatever reaches it, and leaves it, takes so much longer."""
        self._slowness[address.host] = seconds

    def part(self, *sides: Iterable[Address]) -> None:
        """Let addresses reach only those on their side; those of no side reach each other."""
        self._sides = {address.host: number for number, side in enumerate(sides, 1) for address in side}

    def block(self, sources: Iterable[Address], destinations: Iterable[Address]) -> None:
        """Lose all that goes this way; the other way stays open."""
        others = list(destinations)
        self._blocked.update((source.host, other.host) for source in sources for other in others)

    def heal(self) -> None:
        """Connect all again."""
        self._sides, self._blocked = {}, set()

    def carries(self, source: Address, destination: Address) -> bool:
        """Say whether datagrams go this way at all."""
        if self._sides and self._sides.get(source.host, 0) != self._sides.get(destination.host, 0):
            return False
        return not self._blocked or (source.host, destination.host) not in self._blocked

    def connects(self, one: Address, other: Address) -> bool:
        """Say whether a stream between the two is possible: it needs both ways."""
        return self.carries(one, other) and self.carries(other, one)

    def arrivals(self, source: Address, destination: Address) -> list[float]:
        """Return after how many seconds a datagram arrives: never, once or twice."""
        self.sent += 1
        chance, conditions = self._random.random, self.conditions
        if not self.carries(source, destination) or chance() < conditions.loss:
            return []
        copies = 2 if conditions.duplicates and chance() < conditions.duplicates else 1
        return [self._delay(source, destination) for _ in range(copies)]

    def round_trip(self, one: Address, other: Address) -> float:
        """Return how long a question and its answer take over a stream."""
        lost = self._random.random() < self.conditions.loss
        again = 0.2 if lost else 0.0  # TCP's least timeout in Linux
        return self._latency(one, other) + self._latency(other, one) + again

    def _delay(self, source: Address, destination: Address) -> float:
        conditions = self.conditions
        late = conditions.stragglers and self._random.random() < conditions.stragglers
        straggling = self._random.random() * conditions.straggling if late else 0.0
        return self._latency(source, destination) + straggling

    def _latency(self, source: Address, destination: Address) -> float:
        low, high = self.conditions.latency
        distance = abs(self._places.get(source.host, 0.0) - self._places.get(destination.host, 0.0))
        jitter = 1.0 + self._random.random() * self.conditions.jitter
        latency = (low + (high - low) * distance) * jitter
        if self._slowness:
            latency += self._slowness.get(source.host, 0.0) + self._slowness.get(destination.host, 0.0)
        return latency
