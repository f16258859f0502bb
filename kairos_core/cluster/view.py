"""What the ledger says about one cluster, as values. How they are read from its entries is in `reading`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

from kairos_core.cluster.quorum import Ballot, Decision, Register
from kairos_core.model import PeerId, Role

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
    node: str = ""  # its name in Kubernetes
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


@dataclass(frozen=True, slots=True)
class Departure:
    """What a node says that leaves a cluster: under which name it is there, and whether its Kubernetes has ended."""

    node: str
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Farewell:
    """What a master says of a node that leaves: it is out of the cluster, or why it is not yet.

    `stopped` if its Kubernetes had ended before: it cannot have come back since.
    """

    is_done: bool
    message: str = ""
    stopped: bool = False

    @property
    def content(self) -> Mapping[str, Any]:
        """The value to publish."""
        return {"done": self.is_done, "message": self.message, "stopped": self.stopped}


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
    departures: Mapping[tuple[str, PeerId], Departure] = field(default_factory=dict)  # who leaves which cluster
    farewells: Mapping[tuple[str, PeerId, PeerId], Farewell] = field(default_factory=dict)  # of whom, by which master

    def wish_of(self, peer: PeerId) -> Role | None:
        """Return what a node is forced to be: nothing if it leaves; by a `role set`, else by its own configuration."""
        return self._wishes.get(peer)

    def candidates(self) -> tuple[PeerId, ...]:
        """Return the living nodes that count towards the cluster: no operators, none that is forced to `none`."""
        return self._candidates

    def voters(self) -> frozenset[PeerId]:
        """Return all who may have voted, dead or alive: a vote that cannot be seen must be outnumbered."""
        return self._voters

    @cached_property
    def _wishes(self) -> dict[PeerId, Role | None]:
        configured = {peer: node.wish for peer, node in self.nodes.items() if node.wish}
        return {**configured, **self.overrides, **{peer: Role.NONE for _, peer in self.departures}}

    @cached_property
    def _members(self) -> list[PeerId]:
        wishes = self._wishes
        return [p for p, node in self.nodes.items() if node.kind == "node" and wishes.get(p) is not Role.NONE]

    @cached_property
    def _voters(self) -> frozenset[PeerId]:
        return frozenset((*self._members, *self.registers))

    @cached_property
    def _candidates(self) -> tuple[PeerId, ...]:
        return tuple(sorted((p for p in self._members if p in self.alive), key=_public_key))


_public_key = attrgetter("public_key")
