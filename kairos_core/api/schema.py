"""The shapes of what the API answers: one source for the answers and for openapi.json.

First those of /api/v1, then EdgeVPN's, whose names are PascalCase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, cast, dataclass_transform

from kairos_core.model import Finding, Role
from kairos_core.runtime.control import Machine, NodeStatus

Shape = TypeVar("Shape")


@dataclass_transform(frozen_default=True)
def shape(**rules: str) -> Callable[[type[Shape]], type[Shape]]:
    """Make a class the shape of an answer. `rules` are what openapi.json says of it, in pydantic's words."""

    def make(described: type[Shape]) -> type[Shape]:
        cast("Any", described).__pydantic_config__ = rules  # read by pydantic alone
        return dataclass(frozen=True)(described)

    return make


@shape(title="Machine")
class MachineShape:
    """A `Machine`: peer ids and roles as strings."""

    peer: str
    name: str
    kind: str
    role: str | None
    address: str | None
    underlay: str | None
    alive: bool
    engine: str
    message: str
    os: str
    arch: str
    version: str


@shape(title="Status")
class StatusShape:
    """A `NodeStatus`."""

    me: MachineShape
    network_id: str
    phase: str
    cluster_id: str | None
    guarantee: str
    machines: list[MachineShape]
    entries: int
    drops: dict[str, int]
    plugins: list[dict[str, str]]
    warnings: list[str]
    milestones: dict[str, float]
    generation: int
    digest: str
    networks: dict[str, dict[str, float]]


@shape(title="Entry")
class EntryShape:
    """One ledger entry; in the event stream, a `value` of null is a delete."""

    bucket: str
    key: str
    value: Any


@shape(extra="forbid")
class RoleWish:
    """The role that a node should take; `auto` lets the network decide."""

    role: Role | Literal["auto"]


@shape(extra="forbid")
class GenerationWish:
    """Whether to give up a cluster that lives."""

    force: bool = False


@shape(extra="forbid")
class LeaveWish:
    """Whether to leave at once, without being taken out of the cluster."""

    force: bool = False


@shape(extra="forbid")
class ClusterWish:
    """The cluster to join."""

    cluster_id: str


@shape(title="Finding")
class FindingShape:
    """A `Finding` of the doctor; `verdict` is ok, note or wrong."""

    check: str
    verdict: str
    message: str
    remedy: str


@shape()
class ErrorDetail:
    """What went wrong: a word for programs, a sentence for people, and what to do."""

    code: str
    message: str
    advice: str | None = None


@shape(title="Error")
class ErrorShape:
    """The body of every error."""

    error: ErrorDetail


@shape()
class Summary:
    """Counts, and this node's peer id."""

    Files: int
    Machines: int
    Users: int
    Services: int
    BlockChain: int
    OnChainNodes: int
    Peers: int
    NodeID: str


@shape()
class MachineRow:
    """A node of the network."""

    PeerID: str
    Hostname: str
    OS: str
    Arch: str
    Address: str
    Version: str
    Connected: bool
    OnChain: bool
    Online: bool


@shape()
class PeerRow:
    """A peer id, and whether it answers."""

    ID: str
    Online: bool


@shape()
class UserRow:
    """An entry of the bucket users."""

    PeerID: str
    Timestamp: str


@shape()
class ServiceRow:
    """An entry of the bucket services or files."""

    PeerID: str
    Name: str


@shape()
class DnsRow:
    """Records for the names that a regular expression matches."""

    Regex: str
    Records: dict[str, str]


@shape()
class Block:
    """The ledger in the form of a block."""

    Index: int
    Timestamp: str
    Storage: dict[str, dict[str, str]]
    Hash: str
    PrevHash: str


@shape()
class Bandwidth:
    """Bytes carried, and bytes per second of late."""

    TotalIn: int
    TotalOut: int
    RateIn: float
    RateOut: float


@shape()
class Announced:
    """What a write answers."""

    State: str


def machine_document(machine: Machine) -> dict[str, Any]:
    """Return a machine as JSON types."""
    return {**_fields_of(machine, MachineShape), "peer": str(machine.peer)}


def status_document(status: NodeStatus) -> dict[str, Any]:
    """Return a status as JSON types."""
    return {
        **_fields_of(status, StatusShape),
        "me": machine_document(status.me),
        "machines": [machine_document(machine) for machine in status.machines],
        "drops": dict(status.drops),
        "plugins": [dict(plugin) for plugin in status.plugins],
        "milestones": dict(status.milestones),
        "networks": {name: dict(figures) for name, figures in status.networks.items()},
    }


def finding_document(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON types."""
    return _fields_of(finding, FindingShape)


def _fields_of(value: object, described: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(described)}
