"""The shapes of what the API answers, as pydantic models: one source for the answers and for openapi.json.

First those of /api/v1, then EdgeVPN's, whose names are PascalCase.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from kairos_core.model import Role
from kairos_core.runtime.control import Machine, NodeStatus

PeerText = Annotated[str, BeforeValidator(str)]


class MachineShape(BaseModel):
    """A `Machine`: peer ids and roles as strings."""

    model_config = ConfigDict(from_attributes=True, title="Machine")

    peer: PeerText
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


class StatusShape(BaseModel):
    """A `NodeStatus`."""

    model_config = ConfigDict(from_attributes=True, title="Status")

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


class EntryShape(BaseModel):
    """One ledger entry; in the event stream, a `value` of null is a delete."""

    model_config = ConfigDict(title="Entry")

    bucket: str
    key: str
    value: Any


class RoleWish(BaseModel):
    """The role that a node should take; `auto` lets the network decide."""

    model_config = ConfigDict(extra="forbid")

    role: Role | Literal["auto"]


class GenerationWish(BaseModel):
    """Whether to give up a cluster that lives."""

    model_config = ConfigDict(extra="forbid")

    force: bool = False


class ClusterWish(BaseModel):
    """The cluster to join."""

    model_config = ConfigDict(extra="forbid")

    cluster_id: str


class FindingShape(BaseModel):
    """A `Finding` of the doctor; `verdict` is ok, note or wrong."""

    model_config = ConfigDict(from_attributes=True, title="Finding")

    check: str
    verdict: str
    message: str
    remedy: str


class ErrorDetail(BaseModel):
    """What went wrong: a word for programs, a sentence for people, and what to do."""

    code: str
    message: str
    advice: str | None = None


class ErrorShape(BaseModel):
    """The body of every error."""

    model_config = ConfigDict(title="Error")

    error: ErrorDetail


class Summary(BaseModel):
    """Counts, and this node's peer id."""

    Files: int
    Machines: int
    Users: int
    Services: int
    BlockChain: int
    OnChainNodes: int
    Peers: int
    NodeID: str


class MachineRow(BaseModel):
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


class PeerRow(BaseModel):
    """A peer id, and whether it answers."""

    ID: str
    Online: bool


class UserRow(BaseModel):
    """An entry of the bucket users."""

    PeerID: str
    Timestamp: str


class ServiceRow(BaseModel):
    """An entry of the bucket services or files."""

    PeerID: str
    Name: str


class DnsRow(BaseModel):
    """Records for the names that a regular expression matches."""

    Regex: str
    Records: dict[str, str]


class Block(BaseModel):
    """The ledger in the form of a block."""

    Index: int
    Timestamp: str
    Storage: dict[str, dict[str, str]]
    Hash: str
    PrevHash: str


class Bandwidth(BaseModel):
    """Bytes carried, and bytes per second of late."""

    TotalIn: int
    TotalOut: int
    RateIn: float
    RateOut: float


class Announced(BaseModel):
    """What a write answers."""

    State: str


def status_document(status: NodeStatus) -> dict[str, Any]:
    """Return a status as JSON types."""
    return StatusShape.model_validate(status).model_dump()


def machine_document(machine: Machine) -> dict[str, Any]:
    """Return a machine as JSON types."""
    return MachineShape.model_validate(machine).model_dump()
