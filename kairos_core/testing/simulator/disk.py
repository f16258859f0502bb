"""A simulated machine's disk: its identity, its promises, its ledger. It survives crashes, and is lost on request."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random

from kairos_core.cluster.durable import Durable
from kairos_core.cluster.quorum import Ballots, Recovery
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Change, Ledger

SAVE_LAG = 0.05
"""Seconds until a change of the ledger is on disk: the store works in a thread of its own. What is younger at a crash
is there or not, by chance. The election's promises are saved before they take effect, and never lag."""


def after_loss(incarnation: str, *, is_new: bool) -> Durable:
    """Return what a machine begins with that has lost its promises: as runtime.state makes it."""
    return Durable(incarnation) if is_new else Durable(incarnation, Ballots(recovery=Recovery()), generation=0)


@dataclass
class Disk:
    """What a machine finds when it starts again."""

    identity: Identity
    durable: Durable
    entries: list[bytes] = field(default_factory=list, repr=False)
    _previous: Durable | None = None
    _young: deque[tuple[float, Change]] = field(default_factory=deque, repr=False)

    def save(self, durable: Durable) -> None:
        """Save what must survive. It counts as on disk (fsync) when this returns, unless the disk lies."""
        if durable != self.durable:
            self._previous, self.durable = self.durable, durable

    def note(self, change: Change, now: float) -> None:
        """Note a change of the ledger: it is not on disk at once."""
        while self._young and self._young[0][0] < now - SAVE_LAG:
            self._young.popleft()
        self._young.append((now, change))

    def power_off(self, ledger: Ledger, now: float, random: Random) -> None:
        """Keep of the ledger what has been saved by now."""
        unsaved = {
            change.entry.id: change.previous
            for moment, change in self._young
            if moment >= now - SAVE_LAG and random.random() < 0.5
        }
        entries = [entry for short_id in ledger.short_ids() if (entry := ledger.find(short_id))]
        older = [unsaved.get(entry.id, entry) for entry in entries]
        self.entries = [entry.raw for entry in older if entry is not None]
        self._young.clear()

    def forget_last_save(self) -> None:
        """Lose the last save of the promises, as a disk does that confirms what it has not written."""
        if self._previous is not None:
            self.durable, self._previous = self._previous, None

    def wipe(self, durable: Durable, identity: Identity | None = None) -> None:
        """Lose all but the identity, or that too (`identity` is then the new one)."""
        self.identity = identity or self.identity
        self.durable, self._previous, self.entries = durable, None, []
        self._young.clear()
