"""From the ledger's entries to the view of one cluster. Whatever is not of the right form is left out.

All buckets of several clusters may share one network: keys begin with the cluster's network id, and entries of
other clusters are not seen here. Each row of the view comes from the one entry whose key names it and its author, so
the view follows from what the ledger holds and never from the order in which that came.

A `Reading` follows a ledger and reads an entry once, when it comes; a node with thousands of them looks at its
cluster many times a second. What it returns is what `read_view` reads afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import takewhile
from typing import Any

from kairos_core.cluster.quorum import Ballot, Decision, Register
from kairos_core.cluster.view import GENERATION_BYTES, MAX_SENTENCE, ApiServer, Departure, Farewell, Node, Report, View
from kairos_core.model import PeerId, Role
from kairos_core.protocol import buckets
from kairos_core.protocol.entry import Entry
from kairos_core.protocol.ledger import is_visible, shown_from
from kairos_core.protocol.seal import is_exchange_key

Place = tuple[str, str]
"""A bucket and a key."""

Row = tuple[Any, Any]

GENERATION_REACH = 1 << 16
"""Generations above our own at which we still hear of one. Stops a member that asks for the last one there is from
leaving its operators none to ask for; lowering it strands a machine that was off while so many passed."""

MAX_NAME = 253
"""Characters of a name that are read: as long as a DNS name can be (RFC 1123), which node names are."""

EVER = float("inf")


def read_view(
    entries: Iterable[Entry], me: PeerId, alive: frozenset[PeerId], network_id: str, generation: int = 1
) -> View:
    """Read the visible entries of a ledger into the view of the cluster `network_id`. Never raises.

    `generation` is the lowest that this node takes part in. Of the election only the latest generation is read.
    """
    reading = Reading(network_id)
    for entry in entries:
        reading.note(entry, stands=True)
    return reading.view(me, alive, None, generation)


class Reading:
    """The rows of one cluster's view, kept up to date: `Ledger.follow` tells it of each entry that comes and goes."""

    def __init__(self, network_id: str) -> None:
        self._network_id = network_id
        self._generation = 0
        self._asked: list[int] = []  # the generations that entries ask for, in order
        self._entries: dict[Place, Entry] = {}
        self._changed: set[Place] = set()
        self._rows: dict[str, dict[str, Row]] = {bucket: {} for bucket in (*_READERS, buckets.GENERATIONS)}
        self._tables: dict[str, dict[Any, Any]] = {bucket: {} for bucket in self._rows}
        self._from, self._until = EVER, -EVER  # the span of time in which what is visible stays the same
        self._view: View | None = None
        self._alive: frozenset[PeerId] | None = None  # who was said to live, for that view

    def note(self, entry: Entry, *, stands: bool) -> None:
        """Note that an entry has come, or gone."""
        if entry.bucket in self._rows:
            place = (entry.bucket, entry.key)
            self._changed.add(place)
            if stands:
                self._entries[place] = entry
            else:
                self._entries.pop(place, None)

    def view(self, me: PeerId, alive: frozenset[PeerId], unix_now: float | None, generation: int = 1) -> View:
        """Return the view at a wall time (None: all entries are visible); the same object if nothing has changed."""
        if unix_now is not None and not self._from <= unix_now < self._until:
            self._from, self._until = -EVER, EVER
            self._changed.update(self._entries)
        stale = self._read_again(unix_now, generation)
        view, are_same = self._view, alive is self._alive or alive == self._alive
        if view is None or stale or not are_same or (view.me, view.generation) != (me, self._generation):
            self._alive = alive
            view = self._view = self._assemble(me, alive | {me}, stale)
        return view

    def _read_again(self, unix_now: float | None, least: int) -> set[str]:
        """Read what has changed; return the buckets whose rows are others now."""
        changed, self._changed = self._changed, set()
        asked = {place for place in changed if place[0] == buckets.GENERATIONS}
        stale = {bucket for bucket, key in asked if self._read(bucket, key, unix_now)}
        if stale:
            self._asked = sorted(number for number, _ in self._rows[buckets.GENERATIONS].values())
        last = least + GENERATION_REACH
        generation = max([1, least, *takewhile(lambda number: number <= last, self._asked)])
        if generation != self._generation:
            self._generation = generation
            changed.update(place for place in self._entries if place[0] in _OF_A_GENERATION)
        stale.update(bucket for bucket, key in changed - asked if self._read(bucket, key, unix_now))
        return stale

    def _read(self, bucket: str, key: str, unix_now: float | None) -> bool:
        """Read one entry; say whether its row is another now."""
        rows, entry = self._rows[bucket], self._entries.get((bucket, key))
        before, row = rows.get(key), None
        if entry is not None and self._is_visible(entry, unix_now):
            try:
                row = _READERS[bucket](entry, f"{self._network_id}/{self._generation}")
            except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
                row = None
        if row is not None:
            rows[key] = row
        elif before is not None:
            del rows[key]
        return row != before

    def _is_visible(self, entry: Entry, unix_now: float | None) -> bool:
        """Say whether readers see an entry, and note until when, and since when, that holds."""
        if unix_now is None or entry.is_deleted:
            return not entry.is_deleted
        for turn in (shown_from(entry), entry.expires_at):
            if turn <= unix_now:
                self._from = max(self._from, turn)
            else:
                self._until = min(self._until, turn)
        return is_visible(entry, unix_now)

    def _assemble(self, me: PeerId, alive: frozenset[PeerId], stale: Iterable[str]) -> View:
        # New tables for what has changed: who holds an older view keeps what it saw.
        for bucket in stale:
            self._tables[bucket] = dict(self._rows[bucket].values())
        tables: Mapping[str, Mapping[Any, Any]] = self._tables
        assigned = tables[buckets.ASSIGNMENTS]
        servers = tables[buckets.CLUSTERS]
        return View(
            me=me,
            generation=self._generation,
            nodes=tables[buckets.PEERS],
            alive=alive,
            prepares=tables[buckets.PREPARES],
            registers=tables[buckets.REGISTERS],
            proposals=tables[buckets.PROPOSALS],
            servers=tuple(servers[place] for place in sorted(servers)),
            claims=tables[buckets.DECISIONS],
            assignments={place: ha for place, (ha, _) in assigned.items()},
            epochs={place: epoch for place, (_, epoch) in assigned.items()},
            overrides=tables[buckets.ROLES],
            reports=tables[buckets.REPORTS],
            departures=tables[buckets.DEPARTURES],
            farewells=tables[buckets.FAREWELLS],
        )


# -- the rows: a key and a value of a table, None for what is not of this cluster -------------------------------------


def _is_of(entry: Entry, prefix: str) -> bool:
    """Say whether this is the one key below a prefix that is its author's: a second one would be a second row."""
    return entry.key == f"{prefix}/{entry.author}"


def _read_generation(entry: Entry, election: str) -> Row | None:
    """Read which generation an entry asks for."""
    rank, _ = entry.content
    is_asked = isinstance(rank, bytes) and len(rank) == GENERATION_BYTES
    return (int.from_bytes(rank), entry.author) if is_asked and _is_of(entry, election.rpartition("/")[0]) else None


def _read_node(entry: Entry, election: str) -> Row | None:
    content = entry.content
    if entry.key != str(entry.author) or content["network_id"] != election.rpartition("/")[0]:
        return None
    names = ("name", "kind", "incarnation", "serves", "node", "os", "arch", "version")
    texts = {name: str(content.get(name, ""))[:MAX_NAME] for name in names}
    wish, seal_key = content.get("wish"), content.get("seal_key")
    addresses = tuple(str(text)[:128] for text in (content.get("addresses") or ())[:8])
    if not isinstance(seal_key, bytes) or not is_exchange_key(seal_key):
        return None
    role = Role(wish) if wish else None
    return entry.author, Node(entry.author, wish=role, seal_key=seal_key, addresses=addresses, **texts)


def _read_report(entry: Entry, _: str) -> Row | None:
    if entry.key != str(entry.author):
        return None
    names = ("role", "engine", "phase", "message", "address")
    return entry.author, Report(**{name: str(entry.content.get(name, ""))[:MAX_SENTENCE] for name in names})


def _read_prepare(entry: Entry, election: str) -> Row | None:
    if not _is_of(entry, election):
        return None
    ballot = Ballot.decode(entry.content[0])
    return (entry.author, ballot) if ballot.peer == entry.author else None


def _read_register(entry: Entry, election: str) -> Row | None:
    return (entry.author, Register.decode(*entry.content)) if _is_of(entry, election) else None


def _read_proposal(entry: Entry, election: str) -> Row | None:
    if not _is_of(entry, election):
        return None
    ballot = Ballot.decode(entry.content[0])
    return (entry.author, (ballot, Decision.decode(entry.content[1]))) if ballot.peer == entry.author else None


def _read_claim(entry: Entry, election: str) -> Row | None:
    return (entry.author, Decision.decode(entry.content)) if _is_of(entry, election) else None


def _read_server(entry: Entry, _: str) -> Row | None:
    cluster_id = entry.key.partition("/")[0]
    if not _is_of(entry, cluster_id):
        return None
    return (cluster_id, entry.author), ApiServer(entry.author, cluster_id, str(entry.content["endpoint"])[:255])


def _read_assignment(entry: Entry, _: str) -> Row | None:
    cluster_id = entry.key.partition("/")[0]
    if not _is_of(entry, cluster_id):
        return None
    ha = tuple(PeerId(raw) for raw in entry.content["ha"][:64])
    return (cluster_id, entry.author), (ha, int(entry.content.get("epoch", 0)))


def _read_departure(entry: Entry, _: str) -> Row | None:
    cluster_id = entry.key.partition("/")[0]
    if not _is_of(entry, cluster_id):
        return None
    name, stopped = str(entry.content["node"])[:MAX_NAME], entry.content.get("stopped") is True
    return (cluster_id, entry.author), Departure(name, stopped)


def _read_farewell(entry: Entry, _: str) -> Row | None:
    cluster_id, who, author = entry.key.split("/")
    if author != str(entry.author):
        return None
    message = str(entry.content.get("message", ""))[:MAX_SENTENCE]
    farewell = Farewell(entry.content["done"] is True, message, entry.content.get("stopped") is True)
    return (cluster_id, PeerId.parse(who), entry.author), farewell


def _read_override(entry: Entry, _: str) -> Row | None:
    return PeerId.parse(entry.key), Role(entry.content["role"])


_READERS: Mapping[str, Callable[[Entry, str], Row | None]] = {
    buckets.GENERATIONS: _read_generation,
    buckets.PEERS: _read_node,
    buckets.REPORTS: _read_report,
    buckets.PREPARES: _read_prepare,
    buckets.REGISTERS: _read_register,
    buckets.PROPOSALS: _read_proposal,
    buckets.DECISIONS: _read_claim,
    buckets.CLUSTERS: _read_server,
    buckets.ASSIGNMENTS: _read_assignment,
    buckets.ROLES: _read_override,
    buckets.DEPARTURES: _read_departure,
    buckets.FAREWELLS: _read_farewell,
}

_OF_A_GENERATION = (buckets.PREPARES, buckets.REGISTERS, buckets.PROPOSALS, buckets.DECISIONS)
