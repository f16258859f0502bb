"""Through which API server a node joins the cluster, and with what; pure, as all that the controller asks."""

from __future__ import annotations

from dataclasses import replace

from kairos_core.cluster import roles
from kairos_core.cluster.local import Local
from kairos_core.cluster.quorum import Decision
from kairos_core.cluster.view import ApiServer, View
from kairos_core.model import EngineState, Join


def find_join(view: View, decision: Decision, local: Local) -> tuple[Join | None, str]:
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
    # itself once it has joined, so a choice stays as long as the process lives, and one of the servers that k3s
    # can know of by now is where it was: it learns from that of those that have moved.
    best = min(servers, key=lambda s: (s.peer not in view.alive, s.peer != decision.init, s.peer))
    # What does not run yet, as after another role was given, is not held to a server that is gone.
    is_up = local.engine.state is EngineState.READY or local.joined in {
        _url(s) for s in servers if s.peer in view.alive
    }
    stays = local.joined is not None and is_up and not local.known.isdisjoint(map(_url, servers))
    return Join(local.joined if local.joined and stays else _url(best), local.join_token.text), ""


def find_rejoin(view: View, decision: Decision, local: Local) -> str | None:
    """Return the API server of another master, for the first one: a living one if there is; None if there never was.

    It stays the same as long as that master is up, so that the plan does; and while nobody is in sight, since that is
    when the others may give up this node.
    """
    masters = (roles.masters(view, decision) & view.alive) - {view.me}
    up = sorted(_url(s) for s in view.servers if s.cluster_id == decision.cluster_id and s.peer in masters)
    return local.joined if local.joined in up else next(iter(up), local.joined)


def _url(server: ApiServer) -> str:
    host = f"[{server.endpoint}]" if ":" in server.endpoint else server.endpoint
    return f"https://{host}:6443"


def remembered(local: Local, server: str | None, view: View, decision: Decision) -> Local:
    """Remember through which API server this node joins, and of which others Kubernetes learns there."""
    if server is None:
        return replace(local, joined=None, known=frozenset())
    offered = frozenset(_url(s) for s in view.servers if s.cluster_id == decision.cluster_id)
    known = local.known | offered if server == local.joined else offered | {server}
    return replace(local, joined=server, known=known)
