"""The controller of one node: `reconcile(view, spec, local, moment) -> actions`, level-triggered.

It looks at the whole state each time and says what should be done next; the same state gives the same actions,
and carrying them out a second time changes nothing. What must survive a crash (`Durable`) is saved before
anything that follows from it is published or started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import SecretStr

from kairos_core.cluster import roles
from kairos_core.cluster.election import Candidacy, Moment, Rules, elect
from kairos_core.cluster.quorum import Ballots, Decision
from kairos_core.cluster.view import View
from kairos_core.model import Attachment, EngineState, EngineStatus, Join, NodePlan, PeerId, Role
from kairos_core.protocol import buckets


@dataclass(frozen=True, slots=True)
class Spec:
    """What this node is configured to be."""

    name: str
    rules: Rules
    kind: str = "node"
    wish: Role | None = None
    has_engine: bool = True  # without one the node only coordinates
    automatic: bool = True  # roles are decided by the network; else only `wish` counts
    datastore: SecretStr | None = None
    cluster_token: Callable[[str], SecretStr] = field(default=lambda _: SecretStr(""), repr=False)


@dataclass(frozen=True, slots=True)
class Durable:
    """What survives this process and a power cut."""

    incarnation: str
    ballots: Ballots = field(default_factory=Ballots)
    intent: str | None = None  # the cluster that this disk has begun to initialise
    node_name: str | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """What only this process knows. `reconcile` returns the next one."""

    durable: Durable
    candidacy: Candidacy = field(default_factory=Candidacy)
    attachment: Attachment | None = None
    tls_names: tuple[str, ...] = ()  # further addresses of this machine under which an API server is reached
    joined: str | None = None  # the API server that this process joined through; kept, so nothing restarts
    engine: EngineStatus = field(default_factory=lambda: EngineStatus(EngineState.ABSENT))
    join_token: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class Publication:
    """An entry that should stand in the ledger under our name."""

    bucket: str
    key: str
    value: Mapping[str, Any] | list[Any]


@dataclass(frozen=True, slots=True)
class Actions:
    """What to do, in this order: save `local.durable`, publish, apply the plan, share the secrets, report."""

    local: Local
    publish: tuple[Publication, ...] = ()
    plan: NodePlan | None = None
    share: Mapping[str, tuple[PeerId, ...]] = field(default_factory=dict)
    role: Role | None = None
    decision: Decision | None = None
    phase: str = "discovering"
    message: str = ""
    wake_at: float = float("inf")


def reconcile(view: View, spec: Spec, local: Local, moment: Moment) -> Actions:
    """Say what to do in this state, at this moment."""
    if not spec.automatic:
        return _manual(view, spec, local)
    election = elect(view, spec.rules, local.durable.ballots, local.candidacy, moment)
    ballots, candidacy = election.ballots, election.candidacy
    local = replace(local, durable=replace(local.durable, ballots=ballots), candidacy=candidacy)
    publish = tuple(Publication(*entry) for entry in election.publish)
    base = Actions(local, publish, decision=ballots.decided, wake_at=election.wake_at)
    if spec.kind != "node":
        return replace(base, phase="ready", message="connected as an operator: no role, no vote")
    if view.wish_of(view.me) is Role.NONE:
        why = "its role is set to none" if spec.has_engine else "no Kubernetes engine is installed"
        return replace(base, role=Role.NONE, phase="ready", message=f"takes no role: {why}")
    if ballots.decided is None:
        return replace(base, phase=election.phase, message=election.message)
    return _settle(base, view, spec, ballots.decided)


def _settle(base: Actions, view: View, spec: Spec, decision: Decision) -> Actions:
    """Do what the decided cluster asks of this node."""
    role = roles.role_of(view, decision, view.me)
    if role is None:
        return replace(base, phase="waiting", message=_why_no_role(view, decision))
    base = replace(base, role=role)
    if view.me == decision.init:
        base = _assign(base, view, decision)
    if base.local.attachment is None:
        return replace(base, phase="attaching", message="waiting for an address in the network")
    base = _name_node(base, view, spec)
    join, missing = _join(view, decision, base.local)
    if role is not Role.WORKER:
        base = _share(base, view, spec, decision)
    if view.me != decision.init and join is None:
        return replace(base, phase="waiting", message=missing)
    if view.me == decision.init:
        base = _with_durable(base, intent=decision.cluster_id)
    return _run(base, spec, decision, join if view.me != decision.init else None)


def _run(base: Actions, spec: Spec, decision: Decision, join: Join | None) -> Actions:
    attachment, role = base.local.attachment, base.role
    assert attachment is not None
    assert role is not None
    plan = NodePlan(
        role=role,
        node_name=base.local.durable.node_name or spec.name,
        attachment=attachment if role.is_master else replace(attachment, manifests=()),
        cluster_token=None if join else spec.cluster_token(decision.cluster_id),
        join=join,
        datastore=spec.datastore if role.is_master else None,
        tls_names=base.local.tls_names if role.is_master else (),
    )
    joined = replace(base.local, joined=join.server if join else None)
    return _with_engine_phase(replace(base, plan=plan, local=joined))


def _with_engine_phase(base: Actions) -> Actions:
    engine = base.local.engine
    phase = {EngineState.READY: "ready", EngineState.FAILED: "failed"}.get(engine.state, "starting")
    return replace(base, phase=phase, message=engine.message or "Kubernetes is starting")


def _manual(view: View, spec: Spec, local: Local) -> Actions:
    """Without automatic roles the node does as its file says: one server, an agent of a given one, or nothing."""
    base = Actions(local, role=spec.wish)
    if spec.kind != "node" or spec.wish in (None, Role.NONE):
        return replace(base, phase="ready", message="automatic roles are off and no role is set")
    if local.attachment is None:
        return replace(base, phase="attaching", message="waiting for an address in the network")
    base = _name_node(base, view, spec)
    plan = NodePlan(
        role=spec.wish or Role.WORKER,
        node_name=base.local.durable.node_name or spec.name,
        attachment=local.attachment,
        datastore=spec.datastore,
        tls_names=local.tls_names,
    )
    return _with_engine_phase(replace(base, plan=plan))


def _assign(base: Actions, view: View, decision: Decision) -> Actions:
    if decision.masters is None:
        return base
    wanted = roles.assignment(view, decision)
    if wanted == decision.ha and (decision.cluster_id, view.me) not in view.assignments:
        return base
    key = f"{decision.cluster_id}/{view.me}"
    value = {"ha": [peer.public_key for peer in wanted]}
    return replace(base, publish=(*base.publish, Publication(buckets.ASSIGNMENTS, key, value)))


def _share(base: Actions, view: View, spec: Spec, decision: Decision) -> Actions:
    """A ready master says so, and seals the join token to the nodes and the kubeconfig to masters and operators."""
    local = base.local
    if local.engine.state is not EngineState.READY or local.attachment is None:
        return base
    endpoint = local.attachment.endpoint or local.attachment.node_ip
    server = Publication(buckets.CLUSTERS, f"{decision.cluster_id}/{view.me}", {"endpoint": endpoint})
    operators = {peer for peer, node in view.nodes.items() if node.kind == "operator"}
    members = {peer for peer, node in view.nodes.items() if node.kind == "node" and view.wish_of(peer) is not Role.NONE}
    share = {
        "join-token": tuple(sorted(members - {view.me})),
        "kubeconfig": tuple(sorted((roles.masters(view, decision) | operators) & set(view.nodes))),
    }
    return replace(base, publish=(*base.publish, server), share=share)


def _join(view: View, decision: Decision, local: Local) -> tuple[Join | None, str]:
    """Return how to join, or what is missing."""
    masters = roles.masters(view, decision) - {view.me}
    servers = [s for s in view.servers if s.cluster_id == decision.cluster_id and s.peer in masters]
    first = view.nodes.get(decision.init)
    name = first.name if first else decision.init.short
    if not servers:
        return None, f"waiting until the first master, {name}, is up"
    if local.join_token is None:
        return None, f"waiting for the join token, which {name} has not sealed to this node yet"
    # The initialiser while it lives, else any living master: all serve the same API. k3s balances its load by
    # itself once it has joined, so a choice stays as long as the process lives.
    best = min(servers, key=lambda s: (s.peer not in view.alive, s.peer != decision.init, s.peer))
    host = f"[{best.endpoint}]" if ":" in best.endpoint else best.endpoint
    return Join(local.joined or f"https://{host}:6443", local.join_token), ""


def _name_node(base: Actions, view: View, spec: Spec) -> Actions:
    """Fix the Kubernetes node name once: the host name, with a suffix if another machine bears the same."""
    if base.local.durable.node_name:
        return base
    twins = [peer for peer, node in view.nodes.items() if node.name == spec.name and node.kind == "node"]
    is_first = not twins or min((*twins, view.me)) == view.me
    name = spec.name if is_first else f"{spec.name}-{view.me.short.lower()}"
    return _with_durable(base, node_name=name)


def _with_durable(base: Actions, **changes: Any) -> Actions:
    return replace(base, local=replace(base.local, durable=replace(base.local.durable, **changes)))


def _why_no_role(view: View, decision: Decision) -> str:
    wish = view.wish_of(view.me)
    if view.me == decision.init:
        return (
            f"this machine initialised cluster {decision.cluster_id}, but its disk was replaced since; it will not "
            "initialise a second one. Restore its disk, or let another network id begin anew"
        )
    if decision.masters is None and wish is not None and wish.is_master:
        return (
            f"p2p.role is {wish}, but {decision.init.short} is the master and a second one needs p2p.auto.ha. "
            "Enable HA on all nodes, or set this node's role to worker"
        )
    return "waiting for the first master to assign the HA masters"
