"""What the ledger says about one cluster, read into values. Whatever is not of the right form is left out.

All buckets of several clusters may share one network: keys begin with the cluster's network id, and entries of
other clusters are not seen here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kairos_core.cluster.quorum import Ballot, Decision, Register
from kairos_core.model import PeerId, Role
from kairos_core.protocol import buckets
from kairos_core.protocol.entry import Entry
from kairos_core.protocol.seal import is_exchange_key

GENERATION_BYTES = 4

MAX_SENTENCE = 256
"""Characters of a report's message that are read. Raising it lets every node's table grow by as much."""


@dataclass(frozen=True, slots=True)
class Node:
    """A member as it describes itself in `peers`."""

    peer: PeerId
    name: str = ""
    kind: str = "node"  # or "operator": a bridge, which takes no role and has no vote
    wish: Role | None = None  # what p2p.role forces
    incarnation: str = ""  # random at first start; a wiped disk has another
    serves: str = ""  # the cluster whose control plane is on its disk
    seal_key: bytes = b""  # X25519, for secrets
    addresses: tuple[str, ...] = ()
    os: str = ""
    arch: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """How far a node has come, as it reports itself."""

    role: str = ""
    engine: str = ""
    phase: str = ""
    message: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A master's API server that is up: the host under which it is reached."""

    peer: PeerId
    cluster_id: str
    endpoint: str


@dataclass(frozen=True)
class View:
    """One cluster, as this node sees it at one moment."""

    me: PeerId
    generation: int = 1  # the highest that anybody has asked for
    nodes: Mapping[PeerId, Node] = field(default_factory=dict)
    alive: frozenset[PeerId] = frozenset()  # includes me
    prepares: Mapping[PeerId, Ballot] = field(default_factory=dict)
    registers: Mapping[PeerId, Register] = field(default_factory=dict)
    proposals: Mapping[PeerId, tuple[Ballot, Decision]] = field(default_factory=dict)
    servers: tuple[ApiServer, ...] = ()
    claims: Mapping[PeerId, Decision] = field(default_factory=dict)  # what each node holds to be decided
    assignments: Mapping[tuple[str, PeerId], tuple[PeerId, ...]] = field(default_factory=dict)
    epochs: Mapping[tuple[str, PeerId], int] = field(default_factory=dict)  # how often each of those has changed
    overrides: Mapping[PeerId, Role] = field(default_factory=dict)
    reports: Mapping[PeerId, Report] = field(default_factory=dict)

    def wish_of(self, peer: PeerId) -> Role | None:
        """Return what a node is forced to be: by an operator's `role set`, else by its own configuration."""
        return self.overrides.get(peer) or (self.nodes[peer].wish if peer in self.nodes else None)

    def candidates(self) -> tuple[PeerId, ...]:
        """Return the living nodes that count towards the cluster: no operators, none that is forced to `none`."""
        return tuple(
            sorted(
                peer
                for peer, node in self.nodes.items()
                if peer in self.alive and node.kind == "node" and self.wish_of(peer) is not Role.NONE
            )
        )


def read_view(
    entries: Iterable[Entry], me: PeerId, alive: frozenset[PeerId], network_id: str, generation: int = 1
) -> View:
    """Read the visible entries of a ledger into the view of the cluster `network_id`. Never raises.

    `generation` is the lowest that this node takes part in. Of the election only the latest generation is read.
    """
    seen = [entry for entry in entries if entry.bucket in _READERS or entry.bucket == buckets.GENERATIONS]
    generation = max([1, generation, *(_read_generation(entry, network_id) for entry in seen)])
    network_id = f"{network_id}/{generation}"
    tables: dict[str, dict[Any, Any]] = {name: {} for name in _READERS}
    for entry in seen:
        reader = _READERS.get(entry.bucket)
        if reader is None:
            continue
        try:
            row = reader(entry, network_id)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            continue
        if row is not None:
            tables[entry.bucket][row[0]] = row[1]
    return View(
        me=me,
        generation=generation,
        nodes=tables[buckets.PEERS],
        alive=alive | {me},
        prepares=tables[buckets.PREPARES],
        registers=tables[buckets.REGISTERS],
        proposals=tables[buckets.PROPOSALS],
        servers=tuple(tables[buckets.CLUSTERS].values()),
        claims=tables[buckets.DECISIONS],
        assignments={place: ha for place, (ha, _) in tables[buckets.ASSIGNMENTS].items()},
        epochs={place: epoch for place, (_, epoch) in tables[buckets.ASSIGNMENTS].items()},
        overrides=tables[buckets.ROLES],
        reports=tables[buckets.REPORTS],
    )


def _read_generation(entry: Entry, network_id: str) -> int:
    """Return the generation that an entry asks for, 0 when it asks for none."""
    if entry.bucket != buckets.GENERATIONS or not entry.key.startswith(network_id + "/"):
        return 0
    content = entry.content
    rank = content[0] if isinstance(content, list) and content else None
    return int.from_bytes(rank) if isinstance(rank, bytes) and len(rank) == GENERATION_BYTES else 0


def _read_node(entry: Entry, election: str) -> tuple[PeerId, Node] | None:
    content = entry.content
    if content["network_id"] != election.rpartition("/")[0]:
        return None
    names = ("name", "kind", "incarnation", "serves", "os", "arch", "version")
    texts = {name: str(content.get(name, ""))[:128] for name in names}
    wish, seal_key = content.get("wish"), content.get("seal_key")
    addresses = tuple(str(text)[:128] for text in (content.get("addresses") or ())[:8])
    if not isinstance(seal_key, bytes) or not is_exchange_key(seal_key):
        return None
    role = Role(wish) if wish else None
    return entry.author, Node(entry.author, wish=role, seal_key=seal_key, addresses=addresses, **texts)


def _read_report(entry: Entry, _: str) -> tuple[PeerId, Report]:
    names = ("role", "engine", "phase", "message", "address")
    return entry.author, Report(**{name: str(entry.content.get(name, ""))[:MAX_SENTENCE] for name in names})


def _read_prepare(entry: Entry, election: str) -> tuple[PeerId, Ballot] | None:
    if not entry.key.startswith(election + "/"):
        return None
    ballot = Ballot.decode(entry.content[0])
    return (entry.author, ballot) if ballot.peer == entry.author else None


def _read_register(entry: Entry, election: str) -> tuple[PeerId, Register] | None:
    if not entry.key.startswith(election + "/"):
        return None
    return entry.author, Register.decode(*entry.content)


def _read_proposal(entry: Entry, election: str) -> tuple[PeerId, tuple[Ballot, Decision]] | None:
    if not entry.key.startswith(election + "/"):
        return None
    ballot = Ballot.decode(entry.content[0])
    return (entry.author, (ballot, Decision.decode(entry.content[1]))) if ballot.peer == entry.author else None


def _read_claim(entry: Entry, election: str) -> tuple[PeerId, Decision] | None:
    return (entry.author, Decision.decode(entry.content)) if entry.key.startswith(election + "/") else None


def _read_server(entry: Entry, _: str) -> tuple[PeerId, ApiServer]:
    cluster_id = entry.key.partition("/")[0]
    return entry.author, ApiServer(entry.author, cluster_id, str(entry.content["endpoint"])[:255])


def _read_assignment(entry: Entry, _: str) -> tuple[tuple[str, PeerId], tuple[tuple[PeerId, ...], int]]:
    cluster_id = entry.key.partition("/")[0]
    ha = tuple(PeerId(raw) for raw in entry.content["ha"][:64])
    return (cluster_id, entry.author), (ha, int(entry.content.get("epoch", 0)))


def _read_override(entry: Entry, _: str) -> tuple[PeerId, Role]:
    return PeerId.parse(entry.key), Role(entry.content["role"])


_READERS = {
    buckets.PEERS: _read_node,
    buckets.REPORTS: _read_report,
    buckets.PREPARES: _read_prepare,
    buckets.REGISTERS: _read_register,
    buckets.PROPOSALS: _read_proposal,
    buckets.DECISIONS: _read_claim,
    buckets.CLUSTERS: _read_server,
    buckets.ASSIGNMENTS: _read_assignment,
    buckets.ROLES: _read_override,
}
