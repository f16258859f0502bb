"""How a node leaves the cluster: it asks, a master takes it out, and only then its Kubernetes ends. Pure.

    departures/<cluster id>/<who leaves>              I leave; this is my name in the cluster; my Kubernetes has ended
    farewells/<cluster id>/<who leaves>/<a master>    it is out (or why it is not yet); its Kubernetes had ended

A master takes it out, then its Kubernetes ends, then a master makes sure: a node that was taken out may join anew by
itself when its Kubernetes is started again in between (by its init system, say), and would leave a dead member behind.

One ready master drains the node and deletes it, and with it its member of the datastore: so a quorum is not lost by a
member that is gone, and the work of the node is elsewhere before it ends. That master is the same for all who see the
same, and two that see differently do no harm: taking out who is out already changes nothing.

The only master of a cluster waits, since with it the cluster would end. What is left on a disk of a cluster that the
network has given up is removed only when the operator says that this machine leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kairos_core.cluster import roles
from kairos_core.cluster.durable import Durable, Leaving
from kairos_core.cluster.quorum import Decision
from kairos_core.cluster.view import Departure, Farewell, View
from kairos_core.model import EngineState, PeerId
from kairos_core.protocol import buckets

Entry = tuple[str, str, Mapping[str, Any] | None]
"""Bucket, key and value to publish; None deletes."""


@dataclass(frozen=True, slots=True)
class Expulsion:
    """Whom a master has to take out of the cluster."""

    cluster_id: str
    peer: PeerId
    node_name: str
    stopped: bool = False
    """Whether its Kubernetes has ended."""


def request(view: View, durable: Durable, *, stopped: bool = False) -> tuple[Entry, ...]:
    """Return what a node says that leaves the cluster it runs: that it does, and that it serves nobody any more.

    `stopped` once its Kubernetes has ended.
    """
    if durable.runs is None:
        return tuple(_withdrawn(view))
    place = f"{durable.runs}/{view.me}"
    said = {"node": durable.node_name or ""} | ({"stopped": True} if stopped else {})
    entries: list[Entry] = [(buckets.DEPARTURES, place, said)]
    if any((server.cluster_id, server.peer) == (durable.runs, view.me) for server in view.servers):
        entries.append((buckets.CLUSTERS, place, None))
    return tuple(entries)


def _withdrawn(view: View) -> Iterator[Entry]:
    for cluster_id, peer in view.departures:
        if peer == view.me:
            yield buckets.DEPARTURES, f"{cluster_id}/{peer}", None


def is_out(view: View, decision: Decision | None, durable: Durable) -> bool:
    """Say whether nothing holds a leaving node in the cluster any more, so that its Kubernetes may end."""
    if durable.runs is None or durable.leaving is Leaving.AT_ONCE:
        return True
    if decision is None or decision.cluster_id != durable.runs:
        return bool(durable.leaving)  # given up by the network: nobody is left who could, and its data is nobody's
    return any(farewell.is_done for farewell in _farewells(view, decision))


def is_over(view: View, decision: Decision | None, durable: Durable) -> bool:
    """Say whether a node whose Kubernetes has ended is out of the cluster for good."""
    if durable.leaving is Leaving.AT_ONCE or decision is None or decision.cluster_id != durable.runs:
        return True
    return any(farewell.is_done and farewell.stopped for farewell in _farewells(view, decision))


def what_holds(view: View, decision: Decision | None, durable: Durable) -> str:
    """Return why a leaving node is not out of the cluster yet: one sentence."""
    if decision is None or decision.cluster_id != durable.runs:
        return (
            f"takes no role. The Kubernetes of cluster {durable.runs}, which the network has given up, is still here. "
            "To remove it with its data: kairos leave"
        )
    if not _takers(view, decision):
        return (
            "cannot leave yet: no other master is ready that could take this node out of the cluster. Start one, or "
            "leave at once: kairos leave --force"
        )
    failures = [farewell.message for farewell in _farewells(view, decision) if farewell.message]
    return f"leaving: {failures[0]}" if failures else "leaving: a master is taking this node out of the cluster"


def _farewells(view: View, decision: Decision) -> list[Farewell]:
    """Return what masters of the cluster say of us."""
    masters = roles.masters(view, decision) - {view.me}
    return [
        farewell
        for (cluster_id, peer, author), farewell in view.farewells.items()
        if (cluster_id, peer) == (decision.cluster_id, view.me) and author in masters
    ]


def _takers(view: View, decision: Decision) -> list[PeerId]:
    """Return the masters that can take a node out, the one that should first."""
    leaving = {peer for cluster_id, peer in view.departures if cluster_id == decision.cluster_id}
    return sorted(
        peer
        for peer in roles.masters(view, decision) & view.alive - leaving
        if peer in view.reports and view.reports[peer].engine == EngineState.READY
    )


def expulsions(view: View, decision: Decision) -> tuple[Expulsion, ...]:
    """Return whom this master should take out now; nobody if another one should."""
    if _takers(view, decision)[:1] != [view.me]:
        return ()
    return tuple(
        Expulsion(cluster_id, peer, asked.node, asked.stopped)
        for (cluster_id, peer), asked in sorted(view.departures.items(), key=lambda item: item[0])
        if cluster_id == decision.cluster_id and _is_its_name(view, peer, asked.node)
        if not _is_done(view, cluster_id, peer, asked)
    )


def _is_its_name(view: View, peer: PeerId, name: str) -> bool:
    """Say whether a node has the name under which it leaves, and it alone: nobody has another one taken out."""
    return [other for other, node in view.nodes.items() if node.node == name] == [peer]


def _is_done(view: View, cluster_id: str, peer: PeerId, asked: Departure) -> bool:
    said = (farewell for place, farewell in view.farewells.items() if place[:2] == (cluster_id, peer))
    return any(farewell.is_done and farewell.stopped >= asked.stopped for farewell in said)


def forgotten(view: View) -> tuple[Entry, ...]:
    """Return the farewells of this master that nobody waits for any more, as deletions."""
    return tuple(
        (buckets.FAREWELLS, f"{cluster_id}/{peer}/{author}", None)
        for cluster_id, peer, author in view.farewells
        if author == view.me and (cluster_id, peer) not in view.departures
    )
