"""What a node knows of itself alone, from one look of its controller to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kairos_core.cluster.durable import Durable
from kairos_core.cluster.election import Candidacy
from kairos_core.cluster.rotation import JoinToken
from kairos_core.model import Attachment, EngineState, EngineStatus, PeerId


@dataclass(frozen=True, slots=True)
class Local:
    """What only this process knows. `reconcile` returns the next one."""

    durable: Durable
    candidacy: Candidacy = field(default_factory=Candidacy)
    attachment: Attachment | None = None
    tls_names: tuple[str, ...] = ()  # further addresses of this machine under which an API server is reached
    joined: str | None = None  # the API server that this process joined through; kept, so nothing restarts
    known: frozenset[str] = frozenset()  # API servers that Kubernetes has learned of since
    queued: float | None = None  # since when this master waits for its turn to join (monotonic)
    absent: Mapping[PeerId, float] = field(default_factory=dict)  # since when masters are silent (monotonic)
    engine: EngineStatus = field(default_factory=lambda: EngineStatus(EngineState.ABSENT))
    join_token: JoinToken | None = None  # the newest that masters share, ourselves among them
    is_dismissed: bool = False  # this process has removed Kubernetes from the machine
