"""Which role a node takes. Pure functions of the view and the decision: every node computes the same answer."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from functools import lru_cache

from kairos_core.cluster.quorum import Decision
from kairos_core.cluster.view import View
from kairos_core.model import EngineState, PeerId, Role

_SETTLED = frozenset((EngineState.READY, EngineState.FAILED))
"""Of an engine that holds up nobody."""


def order(peers: Iterable[PeerId], generation: int) -> list[PeerId]:
    """Sort peers by a hash that differs from generation to generation, so no machine is always first."""
    return sorted(peers, key=lambda peer: _rank(peer.public_key, generation))


@lru_cache(maxsize=4096)
def _rank(public_key: bytes, generation: int) -> bytes:
    return hashlib.sha256(generation.to_bytes(8) + public_key).digest()


def initialisers(view: View, generation: int) -> list[PeerId]:
    """Return who may initialise the cluster, best first: forced masters if there are any, else whoever is free."""
    candidates = view.candidates()
    forced = [p for p in candidates if view.wish_of(p) in (Role.MASTER, Role.CLUSTER_INIT)]
    free = [p for p in candidates if view.wish_of(p) is None]
    # A control plane of an earlier generation is kept: its machine initialises another only where there is no other.
    ranked = order(forced or free, generation)
    return sorted(ranked, key=lambda peer: bool(view.nodes[peer].serves))


def first_ha(view: View, init: PeerId, wanted: int, generation: int) -> tuple[PeerId, ...]:
    """Return the HA masters to decide together with the initialiser: those forced first, then by hash."""
    return _fill((), view, init, wanted, generation)


def ha_masters(view: View, decision: Decision) -> tuple[PeerId, ...]:
    """Return the HA masters: as they were last assigned, else as decided."""
    return assigned(view, decision)[0]


def assigned(view: View, decision: Decision) -> tuple[tuple[PeerId, ...], int]:
    """Return the HA masters and how often they were assigned anew.

    One after the other counts what was assigned by one who was a master then: the initialiser, those it was decided
    with, those they have made masters. All masters repeat the last under their own names, so it outlives its author.
    """
    ha, epoch = decision.ha, 0
    while True:
        places = {peer: (decision.cluster_id, peer) for peer in (decision.init, *ha)}
        later = [peer for peer, place in places.items() if view.epochs.get(place, 0) > epoch]
        if not later:
            return ha, epoch
        author = min(later, key=lambda peer: (view.epochs[places[peer]], peer != decision.init, peer))
        ha, epoch = view.assignments[places[author]], view.epochs[places[author]]


def assigner(view: View, decision: Decision, lost: Collection[PeerId]) -> PeerId | None:
    """Return which master assigns the others: the initialiser, or after it the first that is not gone."""
    masters = (decision.init, *ha_masters(view, decision))
    return next((peer for peer in masters if not is_gone(view, decision, peer, lost)), None)


def is_gone(view: View, decision: Decision, peer: PeerId, lost: Collection[PeerId]) -> bool:
    """Say whether a master does nothing for the cluster any more: lost, leaving, or the first one without its disk."""
    is_without_disk = peer == decision.init and _init_role(view, decision) is None
    return peer in lost or view.wish_of(peer) is Role.NONE or is_without_disk


def joining_before(view: View, decision: Decision, me: PeerId) -> list[PeerId]:
    """Return the further masters that are before this one in the list, live, and have not joined yet."""
    ha = ha_masters(view, decision)
    engines = {peer: report.engine for peer, report in view.reports.items()}
    return [
        peer
        for peer in ha[: ha.index(me) if me in ha else 0]
        if peer in view.alive and view.wish_of(peer) is not Role.NONE and engines.get(peer) not in _SETTLED
    ]


def masters(view: View, decision: Decision) -> set[PeerId]:
    """Return the masters of the cluster: only these are believed when they offer an API server or a token."""
    return {decision.init, *ha_masters(view, decision)}


def assignment(view: View, decision: Decision, lost: Collection[PeerId] = ()) -> tuple[PeerId, ...]:
    """Return what should be assigned now: the last list, completed by nodes that are no workers yet.

    `lost` are nodes that have been silent for long. Each is replaced: by a node without a role, else by a worker,
    and where there is neither it keeps its place. The initialiser is replaced too, by one more in the list.
    """
    is_headless = is_gone(view, decision, decision.init, lost)
    wanted, generation = (decision.masters or 0) + is_headless, decision.generation
    listed = tuple(p for p in ha_masters(view, decision) if view.wish_of(p) not in (Role.WORKER, Role.NONE))
    kept = tuple(peer for peer in listed if peer not in lost)
    full = _fill(kept, view, decision.init, wanted, generation)
    gone = [peer for peer in listed if peer in lost]
    vacant = len(ha_masters(view, decision)) - len(kept) + is_headless
    free = [p for p in order(view.candidates(), generation) if view.wish_of(p) is None and _is_worker(view, p)]
    workers = [p for p in free if p not in full and p != decision.init][: min(vacant, max(0, wanted - len(full)))]
    return (*full, *workers, *gone[: max(0, wanted - len(full) - len(workers))])


def _fill(kept: tuple[PeerId, ...], view: View, init: PeerId, wanted: int, generation: int) -> tuple[PeerId, ...]:
    others = [p for p in order(view.candidates(), generation) if p != init and p not in kept]
    forced = [p for p in others if view.wish_of(p) in (Role.HA, Role.MASTER, Role.CLUSTER_INIT)]
    # Whoever has the control plane of another cluster on its disk, or was replaced in this one, waits for an operator.
    free = [p for p in others if view.wish_of(p) is None and not _is_worker(view, p) and not view.nodes[p].serves]
    room = max(0, wanted - len(kept) - len(forced))
    return (*kept, *forced, *free[:room])


def _is_worker(view: View, peer: PeerId) -> bool:
    """A node that runs as a worker stays one: its workloads should not be moved to make a master."""
    report = view.reports.get(peer)
    return report is not None and report.role == Role.WORKER


def role_of(view: View, decision: Decision, peer: PeerId) -> Role | None:
    """Return the role of a node; None while it has to wait (for an assignment, or for an operator)."""
    wish = view.wish_of(peer)
    if wish is Role.NONE:
        return Role.NONE
    if peer == decision.init:
        return _init_role(view, decision)
    if decision.masters is None:
        # Another forced master would be a second cluster; it waits for an operator instead.
        return None if wish is not None and wish.is_master else Role.WORKER
    ha = ha_masters(view, decision)
    if peer in ha:
        return Role.HA
    is_awaited = len(ha) < decision.masters and decision.init in view.alive
    if wish is not Role.WORKER and (is_awaited or wish is not None) and not _is_worker(view, peer):
        return None
    return Role.WORKER


def _init_role(view: View, decision: Decision) -> Role | None:
    node = view.nodes.get(decision.init)
    if node is not None and node.incarnation != decision.incarnation:
        return None  # its disk was wiped: it must never initialise again
    return Role.MASTER if decision.masters is None else Role.CLUSTER_INIT
