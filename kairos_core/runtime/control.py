"""What the HTTP interface and the commands may ask of a running node."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kairos_core.model import Finding, PeerId, Role


@dataclass(frozen=True, slots=True)
class Machine:
    """One node of the network as the ledger and the liveness check show it."""

    peer: PeerId
    name: str
    kind: str  # "node" or "operator" (a bridge)
    role: Role | None
    address: str | None  # in the VPN, or in the LAN without one
    underlay: str | None  # HOST:PORT where the gossip network reaches it
    alive: bool
    engine: str  # an EngineState value, "" before any
    message: str  # one sentence: what it is doing or waiting for
    os: str = ""
    arch: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The state of this node and its network."""

    me: Machine
    network_id: str
    phase: str  # discovering, deciding, attaching, starting, ready, waiting, failed, fenced, leaving, left
    cluster_id: str | None
    guarantee: str  # one sentence: what is promised about "never two clusters" with this configuration
    machines: tuple[Machine, ...]  # this one too, by name
    entries: int
    drops: Mapping[str, int]
    plugins: tuple[Mapping[str, str], ...]
    warnings: tuple[str, ...]
    milestones: Mapping[str, float]  # unix time at which: started, discovered, role, attached, engine
    generation: int = 1  # of the cluster: an operator asks for the next one when a cluster is lost
    digest: str = ""  # of the ledger, in hexadecimal: nodes that show the same one hold the same entries
    networks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # what each network counts


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that this node's transport has received and sent since it started, and the rate of late in bytes/s."""

    received: int
    sent: int
    receive_rate: float
    send_rate: float


class Control(ABC):
    """The running node, as its HTTP interface sees it. All calls are made in the event loop's thread."""

    @abstractmethod
    def status(self) -> NodeStatus:
        """Return the state of this node and its network."""

    @abstractmethod
    def ledger(self, bucket: str | None = None) -> Mapping[str, Mapping[str, Any]]:
        """Return the values that readers see, as JSON types, by bucket and key (bytes appear as base64)."""

    @abstractmethod
    async def put(self, bucket: str, key: str, value: Any) -> None:
        """Write an entry and return when it is saved. Raises ControlError where policy or limits forbid it."""

    @abstractmethod
    async def delete(self, bucket: str, key: str) -> None:
        """Delete an entry. Raises ControlError."""

    @abstractmethod
    def watch(self) -> AsyncIterator[tuple[str, str, Any]]:
        """Yield (bucket, key, value) of each change from now on; value None is a delete."""

    @abstractmethod
    async def set_role(self, peer: PeerId, role: Role | None) -> None:
        """Set the role that a node should take (None: let the network decide). Raises ControlError."""

    @abstractmethod
    async def new_generation(self, *, force: bool = False) -> int:
        """Let the network give up its cluster and decide anew; return the generation once the wish is saved.

        Raises ControlError while a master of the cluster lives and is ready, unless `force`.
        """

    @abstractmethod
    async def adopt(self, cluster_id: str) -> None:
        """Let this node give up the cluster it has and join that one; return when saved. Raises ControlError."""

    @abstractmethod
    async def leave(self, *, at_once: bool = False) -> None:
        """Let this machine leave the cluster and the network for good; return when saved. Raises ControlError.

        It waits until a master has taken it out of the cluster, unless `at_once`.
        """

    @abstractmethod
    def doctor(self) -> tuple[Finding, ...]:
        """Return what is right and wrong with this node and its network, with what mends it."""

    @abstractmethod
    def network(self, name: str) -> Mapping[str, Any]:
        """Return how a network of this node does, as JSON types. Raises ControlError when it has none of the name."""

    @abstractmethod
    async def order(self, network: str, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Let a network do what an operator wants; return its answer, once what it wrote is saved.

        Raises ControlError.
        """

    @abstractmethod
    def kubeconfig(self) -> str:
        """Return the cluster's kubeconfig with a server address that works from here. Raises ControlError."""

    def traffic(self) -> Traffic | None:
        """Return what the transport has carried, or None where it is not counted."""
        return None
