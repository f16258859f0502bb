"""The controller of one node: `reconcile(view, spec, local, moment) -> actions`, level-triggered.

It looks at the whole state each time and says what should be done next; the same state gives the same actions,
and carrying them out a second time changes nothing. What must survive a crash (`Durable`) is saved before
anything that follows from it is published or started.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kairos_core.cluster import departure, roles
from kairos_core.cluster.departure import Expulsion
from kairos_core.cluster.durable import Durable, fenced_off, in_generation, without_kubernetes
from kairos_core.cluster.election import Candidacy, Moment, Rules, elect
from kairos_core.cluster.fence import stronger
from kairos_core.cluster.joining import find_join, find_rejoin, remembered
from kairos_core.cluster.local import Local
from kairos_core.cluster.quorum import Decision
from kairos_core.cluster.view import GENERATION_BYTES, View
from kairos_core.model import EngineState, EngineStatus, Join, NodePlan, PeerId, Role
from kairos_core.protocol import buckets
from kairos_core.settings import SecretStr

__all__ = ["Actions", "Durable", "Local", "Publication", "Spec", "reconcile"]

TURN = 60.0
"""Seconds that a further master waits for those before it to join. Raising it waits longer for one that never does;
lowering it lets two join at once where images take long to load, of which etcd refuses one, and k3s tries again."""


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
    patience: float = 300.0
    """Seconds of silence after which a master counts as lost and is replaced. Raising it leaves the control plane one
    short for longer; lowering it makes another master because a machine was restarted."""


@dataclass(frozen=True, slots=True)
class Publication:
    """An entry that should stand in the ledger under our name."""

    bucket: str
    key: str
    value: Mapping[str, Any] | list[Any] | None  # None deletes


@dataclass(frozen=True, slots=True)
class Actions:
    """What to do, in this order: save `local.durable`, publish, apply the plan, share the secrets, report."""

    local: Local
    publish: tuple[Publication, ...] = ()
    plan: NodePlan | None = None
    dismiss: bool = False  # remove Kubernetes from this machine
    expel: tuple[Expulsion, ...] = ()  # take these nodes out of the cluster
    share: Mapping[str, tuple[PeerId, ...]] = field(default_factory=dict)
    role: Role | None = None
    decision: Decision | None = None
    fenced_by: Decision | None = None  # the cluster that stays, where two were found and ours does not
    phase: str = "discovering"
    message: str = ""
    wake_at: float = float("inf")


def reconcile(view: View, spec: Spec, local: Local, moment: Moment) -> Actions:
    """Say what to do in this state, at this moment."""
    if not spec.automatic:
        return _manual(view, spec, local) if not local.durable.leaving else _leave(Actions(local), view, spec, moment)
    before = local.durable
    local = _move_on(local, view)
    rules = replace(spec.rules, incarnation=local.durable.incarnation)
    election = elect(view, rules, local.durable.ballots, local.candidacy, moment)
    if election.ballots is not local.durable.ballots:
        durable = fenced_off(before, replace(local.durable, ballots=election.ballots), moment.draw)
        local = replace(local, durable=durable)
    if election.candidacy is not local.candidacy:
        local = replace(local, candidacy=election.candidacy)
    publish = (*(Publication(*entry) for entry in election.publish), *_generation(view, spec))
    decision = election.ballots.decided
    base = Actions(local, publish, decision=decision, wake_at=election.wake_at)
    if spec.kind != "node":
        return replace(base, phase="ready", message="connected as an operator: no role, no vote")
    if view.wish_of(view.me) is Role.NONE or local.durable.leaving:
        return _leave(base, view, spec, moment)
    if decision is None:
        return replace(base, phase=election.phase, message=election.message)
    return _follow(base, view, spec, decision, moment)


def _leave(base: Actions, view: View, spec: Spec, moment: Moment) -> Actions:
    """Have this node taken out of the cluster that it runs, then remove Kubernetes, then take no role."""
    durable = base.local.durable
    is_dismissed = base.local.is_dismissed or not spec.has_engine
    if is_dismissed and durable.runs is not None and departure.is_over(view, base.decision, durable):
        durable = without_kubernetes(durable, moment.draw)
    base = replace(base, role=Role.NONE, local=replace(base.local, durable=durable))
    asked = tuple(Publication(*entry) for entry in departure.request(view, durable, stopped=is_dismissed))
    base = replace(base, publish=(*base.publish, *asked))
    if durable.runs is None and (spec.automatic or is_dismissed):
        if durable.leaving:
            return replace(base, phase="left", message="has left the network")
        why = "its role is set to none" if spec.has_engine else "no Kubernetes engine is installed"
        return replace(base, phase="ready", message=f"takes no role: {why}")
    if is_dismissed or not departure.is_out(view, base.decision, durable):
        return replace(base, phase="leaving", message=departure.what_holds(view, base.decision, durable))
    return replace(base, dismiss=True, phase="leaving", message="leaving: Kubernetes is being removed")


def _move_on(local: Local, view: View) -> Local:
    has_met_others = bool(view.nodes.keys() - {view.me})
    durable = in_generation(local.durable, view.generation)
    if durable is local.durable or (local.durable.generation == 0 and not has_met_others):
        return local
    return replace(local, durable=durable, candidacy=Candidacy(), joined=None, join_token=None, absent={})


def _generation(view: View, spec: Spec) -> tuple[Publication, ...]:
    """Every node says which generation it takes part in, so that a later one outlives whoever asked for it."""
    if view.generation == 1 or spec.kind != "node":
        return ()
    value = [view.generation.to_bytes(GENERATION_BYTES), None]
    return (Publication(buckets.GENERATIONS, f"{spec.rules.network_id}/{view.me}", value),)


def _follow(base: Actions, view: View, spec: Spec, decision: Decision, moment: Moment) -> Actions:
    """Take part in the decided cluster, unless another one was found that stays before it."""
    durable = base.local.durable
    is_mine = view.me == decision.init
    rival = stronger(view, decision, is_mine and durable.intent is not None)
    if rival is not None and durable.runs != decision.cluster_id and durable.intent is None:
        # Nothing of ours runs here yet, so nothing is given up.
        base = _with_durable(replace(base, decision=rival), ballots=replace(durable.ballots, decided=rival))
        decision, rival = rival, None
    base = _settle(base, view, spec, decision, moment)
    if view.me != decision.init or base.local.durable.intent == decision.cluster_id:
        key = f"{spec.rules.network_id}/{decision.generation}/{view.me}"
        claim = Publication(buckets.DECISIONS, key, decision.encode())
        base = replace(base, publish=(*base.publish, claim))
    return _fence(base, view, rival) if rival is not None else base


def _fence(base: Actions, view: View, rival: Decision) -> Actions:
    """Keep what runs, offer it to nobody, and name the way out."""
    assert base.decision is not None
    ours = base.decision.cluster_id
    publish = [p for p in base.publish if p.bucket not in (buckets.CLUSTERS, buckets.ASSIGNMENTS)]
    if any(server.peer == view.me and server.cluster_id == ours for server in view.servers):
        publish.append(Publication(buckets.CLUSTERS, f"{ours}/{view.me}", None))
    message = (
        f"fenced off: another cluster, {rival.cluster_id}, was decided too and stays. What runs here goes on; "
        f"to give it up and join: kairos cluster adopt {rival.cluster_id}"
    )
    return replace(base, publish=tuple(publish), share={}, fenced_by=rival, phase="fenced", message=message)


def _settle(base: Actions, view: View, spec: Spec, decision: Decision, moment: Moment) -> Actions:
    """Do what the decided cluster asks of this node."""
    role = roles.role_of(view, decision, view.me)
    if role is None or _is_other_disk(view, decision, base.local.durable):
        return replace(base, phase="waiting", message=_why_no_role(view, decision))
    if why := _why_held(decision, role, base.local.durable):
        return replace(base, phase="waiting", message=why)
    base = replace(base, role=role)
    if role.is_master:
        base = _assign(base, view, spec, decision, moment)
    if base.local.attachment is None:
        return replace(base, phase="attaching", message="waiting for an address in the network")
    base = _name_node(base, view, spec)
    if (base.local.durable.runs, base.local.durable.serves) != (decision.cluster_id, role is not Role.WORKER):
        # Whatever is ready here is what ran before: as an agent, or in the cluster of an earlier generation.
        base = replace(base, local=replace(base.local, engine=EngineStatus(EngineState.STARTING)))
    join, missing = find_join(view, decision, base.local)
    if role is not Role.WORKER:
        base = _take_out(_share(base, view, spec, decision), view, decision)
    if view.me != decision.init and join is None:
        return replace(base, phase="waiting", message=missing)
    if role is Role.HA and base.local.durable.served != decision.cluster_id and spec.datastore is None:
        base = _take_turn(base, view, decision, moment)
        if base.phase == "waiting":
            return base
    if view.me == decision.init:
        base = _with_durable(base, intent=decision.cluster_id)
    base = _with_durable(base, runs=decision.cluster_id, serves=role is not Role.WORKER)
    return _run(base, view, spec, decision, join if view.me != decision.init else None)


def _take_turn(base: Actions, view: View, decision: Decision, moment: Moment) -> Actions:
    """Let further masters join one at a time, since etcd takes in one member at a time; for a while only."""
    before = [view.nodes[peer].name for peer in roles.joining_before(view, decision, view.me) if peer in view.nodes]
    since = moment.now if base.local.queued is None else base.local.queued
    if not before or moment.now >= since + TURN:
        return base
    local, message = replace(base.local, queued=since), f"waiting for {before[0]}: masters join one at a time"
    return replace(base, local=local, phase="waiting", message=message, wake_at=min(base.wake_at, since + TURN))


def _is_other_disk(view: View, decision: Decision, durable: Durable) -> bool:
    """Whether the decision names this machine, but an earlier disk of it: it must never initialise again."""
    return view.me == decision.init and durable.incarnation != decision.incarnation


def _why_held(decision: Decision, role: Role, durable: Durable) -> str:
    """Return why a machine with the control plane of a cluster waits for an operator before it gives that up."""
    served = durable.served
    if not served or (served == decision.cluster_id and role is not Role.WORKER):
        return ""
    way_out = f"kairos cluster adopt {decision.cluster_id}"
    if served == decision.cluster_id:
        return (
            f"replaced: this machine was a master of {served} and was silent for so long that another took its place. "
            f"Take it out of the cluster (kubectl delete node), then let it join as a worker: {way_out}"
        )
    return (
        f"the control plane of cluster {served} is on this machine, and the network has moved on to "
        f"{decision.cluster_id}. Nothing here is touched. When its data is not needed any more: {way_out}"
    )


def _run(base: Actions, view: View, spec: Spec, decision: Decision, join: Join | None) -> Actions:
    attachment, role = base.local.attachment, base.role
    assert attachment is not None
    assert role is not None
    rejoin = find_rejoin(view, decision, base.local) if role is Role.CLUSTER_INIT else None
    server = join.server if join else rejoin
    base = replace(base, local=remembered(base.local, server, view, decision))
    plan = NodePlan(
        role=role,
        node_name=base.local.durable.node_name or spec.name,
        attachment=attachment if role.is_master else replace(attachment, manifests=()),
        cluster_token=None if join else _cluster_token(base.local, spec, decision),
        join=join,
        rejoin=rejoin,
        datastore=spec.datastore if role.is_master else None,
        tls_names=base.local.tls_names if role.is_master else (),
    )
    return _with_engine_phase(replace(base, plan=plan))


def _cluster_token(local: Local, spec: Spec, decision: Decision) -> SecretStr:
    """Return the secret that the initialiser starts the cluster with: the derived one, until it was rotated."""
    rotated = local.join_token
    return rotated.text if rotated and rotated.rotation else spec.cluster_token(decision.cluster_id)


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


def _assign(base: Actions, view: View, spec: Spec, decision: Decision, moment: Moment) -> Actions:
    """Repeat who the HA masters are, and assign them anew if that is this master's part and one is missing."""
    if decision.masters is None:
        return base
    silent = roles.masters(view, decision) - view.alive
    absent = {peer: base.local.absent.get(peer, moment.now) for peer in silent}
    base = replace(base, local=replace(base.local, absent=absent))
    lost = [peer for peer, since in absent.items() if moment.now >= since + spec.patience]
    due = min((since + spec.patience for peer, since in absent.items() if peer not in lost), default=float("inf"))
    base = replace(base, wake_at=min(base.wake_at, due))
    ha, epoch = roles.assigned(view, decision)
    if roles.assigner(view, decision, lost) == view.me:
        wanted = roles.assignment(view, decision, lost)
        ha, epoch = (ha, epoch) if wanted == ha else (wanted, epoch + 1)
    if epoch == 0:
        return base
    # Advisory: once the cluster is up, what counts is in its own etcd. Generation and epoch say how old a copy is.
    value = {"ha": [peer.public_key for peer in ha], "generation": decision.generation, "epoch": epoch}
    key = f"{decision.cluster_id}/{view.me}"
    return replace(base, publish=(*base.publish, Publication(buckets.ASSIGNMENTS, key, value)))


def _share(base: Actions, view: View, spec: Spec, decision: Decision) -> Actions:
    """A ready master says so, and seals the join token to the nodes and the kubeconfig to masters and operators."""
    local = base.local
    if local.engine.state is not EngineState.READY or local.attachment is None:
        return base
    endpoint = local.attachment.endpoint or local.attachment.node_ip
    offer = {"endpoint": endpoint, "generation": decision.generation}
    server = Publication(buckets.CLUSTERS, f"{decision.cluster_id}/{view.me}", offer)
    operators = {peer for peer, node in view.nodes.items() if node.kind == "operator"}
    members = {peer for peer, node in view.nodes.items() if node.kind == "node" and view.wish_of(peer) is not Role.NONE}
    share = {
        "join-token": tuple(sorted(members - {view.me})),
        "kubeconfig": tuple(sorted((roles.masters(view, decision) | operators) & set(view.nodes))),
    }
    return replace(base, publish=(*base.publish, server), share=share)


def _take_out(base: Actions, view: View, decision: Decision) -> Actions:
    """Let a ready master take out of the cluster who wants to leave it."""
    said = tuple(Publication(*entry) for entry in departure.forgotten(view))
    is_ready = base.local.engine.state is EngineState.READY
    expel = departure.expulsions(view, decision) if is_ready else ()
    return replace(base, publish=(*base.publish, *said), expel=expel)


def _name_node(base: Actions, view: View, spec: Spec) -> Actions:
    """Fix the Kubernetes node name once: the host name, with a suffix if another machine bears the same."""
    if base.local.durable.node_name:
        return base
    twins = [peer for peer, node in view.nodes.items() if node.name == spec.name and node.kind == "node"]
    is_first = not twins or min((*twins, view.me)) == view.me
    name = spec.name if is_first else f"{spec.name}-{view.me.short.lower()}"
    return _with_durable(base, node_name=name)


def _with_durable(base: Actions, **changes: Any) -> Actions:
    if all(getattr(base.local.durable, name) == value for name, value in changes.items()):
        return base
    return replace(base, local=replace(base.local, durable=replace(base.local.durable, **changes)))


def _why_no_role(view: View, decision: Decision) -> str:
    wish = view.wish_of(view.me)
    if view.me == decision.init:
        others = [s for s in view.servers if s.cluster_id == decision.cluster_id and s.peer != view.me]
        way_out = (
            "Let it come back as a new node: kairos leave, then kairos join"
            if others
            else "Restore its disk, or give the cluster up: kairos cluster new-generation"
        )
        return (
            f"this machine initialised cluster {decision.cluster_id}, but its disk was replaced since; it will not "
            f"initialise a second one. {way_out}"
        )
    if decision.masters is None and wish is not None and wish.is_master:
        return (
            f"p2p.role is {wish}, but {decision.init.short} is the master and a second one needs p2p.auto.ha. "
            "Enable HA on all nodes, or set this node's role to worker"
        )
    return "waiting for the first master to assign the HA masters"
