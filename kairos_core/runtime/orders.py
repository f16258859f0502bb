"""What an operator may order: a next generation, to join the other of two clusters, or to leave."""

from __future__ import annotations

from kairos_core.cluster import roles
from kairos_core.cluster.durable import Leaving
from kairos_core.cluster.fence import stronger
from kairos_core.cluster.quorum import Decision
from kairos_core.cluster.view import GENERATION_BYTES, View
from kairos_core.errors import ControlError, StoreError
from kairos_core.model import PeerId
from kairos_core.protocol.buckets import GENERATIONS
from kairos_core.runtime.actions import Reconciler
from kairos_core.runtime.pump import Pump


async def order_generation(pump: Pump, reconciler: Reconciler, *, force: bool) -> int:
    """Ask all nodes to give up the cluster and decide anew; return the generation. Raises ControlError."""
    view, decision = reconciler.look(), reconciler.actions.decision
    if not force:
        _check_is_lost(view, decision)
    generation = view.generation + 1
    key = f"{reconciler.spec.rules.network_id}/{pump.me}"
    try:
        value = [generation.to_bytes(GENERATION_BYTES), {"gives_up": decision.cluster_id if decision else ""}]
        pump.publish(GENERATIONS, key, value)
        await pump.saved()
    except (ValueError, OverflowError) as error:
        raise ControlError(f"generation {generation} cannot be asked for: {error}") from error
    except StoreError as error:
        raise ControlError(
            f"generation {generation} is asked for, but not saved on this machine yet: {error}"
        ) from error
    pump.wake()
    return generation


def _check_is_lost(view: View, decision: Decision | None) -> None:
    """Refuse to give up a cluster that lives. Raises ControlError."""
    if decision is None:
        raise ControlError(
            f"generation {view.generation} has decided nothing yet, so there is no cluster to give up. See what it "
            "waits for: kairos doctor. If it can never decide, use --force"
        )
    ready = _ready_masters(view, decision)
    if ready:
        names = ", ".join(view.nodes[peer].name or peer.short for peer in ready if peer in view.nodes)
        raise ControlError(
            f"the cluster {decision.cluster_id} lives: {names} serves it. A new generation would give up all that runs "
            "in it. If that is what you want, use --force"
        )


def _ready_masters(view: View, decision: Decision) -> list[PeerId]:
    masters = roles.masters(view, decision) & view.alive
    return sorted(peer for peer in masters if peer in view.reports and view.reports[peer].engine == "ready")


async def order_leave(reconciler: Reconciler, *, at_once: bool) -> None:
    """Let this machine leave the cluster and the network for good. Raises ControlError."""
    if reconciler.spec.kind != "node":
        raise ControlError("an operator's bridge leaves by ending. Run the command on the node that should leave")
    if not at_once:
        _check_can_leave(reconciler)
    await reconciler.leave(Leaving.AT_ONCE if at_once else Leaving.ORDERLY)


def _check_can_leave(reconciler: Reconciler) -> None:
    """Refuse to end the cluster by taking its only master away. Raises ControlError."""
    view, decision, durable = reconciler.look(), reconciler.actions.decision, reconciler.actions.local.durable
    if decision is None or durable.served != decision.cluster_id or set(_ready_masters(view, decision)) - {view.me}:
        return
    others = len(view.candidates()) - 1
    raise ControlError(
        f"this is the only master of cluster {decision.cluster_id} that is ready: without it the cluster ends"
        f"{f', for {others} more nodes too' if others else ''}. Start another master first, or end the cluster with: "
        "kairos leave --force"
    )


async def order_adoption(reconciler: Reconciler, cluster_id: str) -> None:
    """Let this node give up the cluster it has, and join this one. Raises ControlError."""
    view, ours = reconciler.look(), reconciler.actions.decision
    known = {claim.cluster_id: claim for claim in view.claims.values()} | ({ours.cluster_id: ours} if ours else {})
    if cluster_id not in known:
        names = ", ".join(sorted(known)) or "none"
        raise ControlError(f"no cluster of this network is called {cluster_id!r}; known: {names}. See: kairos doctor")
    if reconciler.spec.kind != "node":
        raise ControlError("an operator's bridge belongs to no cluster. Run the command on the node that should join")
    if cluster_id == (ours.cluster_id if ours else "") and reconciler.actions.phase != "waiting":
        raise ControlError(f"this node is of cluster {cluster_id} already. See: kairos status")
    rival = stronger(view, known[cluster_id], has_begun=False)
    if rival is not None:
        node = view.nodes.get(rival.init)
        raise ControlError(
            f"cluster {cluster_id} is fenced off by {rival.cluster_id}. To keep it all the same, run this command "
            f"first on the first master of that one, {node.name if node else rival.init.short}"
        )
    await reconciler.adopt(known[cluster_id])
