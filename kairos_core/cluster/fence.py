"""When two clusters of one network meet: which stays, and which is fenced off until an operator decides.

That happens where more nodes voted than the quorum covers and two parts of the network decided without knowing of
each other. Nothing can undo it without loss, so nothing is destroyed: the nodes of the fenced cluster keep what they
run, offer it to nobody, and say so.

A cluster counts as soon as its initialiser says that it has begun to initialise it. The one that stays is the one
whose proposer saw more nodes: fewer machines have to move. Then the one decided in the lower round, then the lower
id. All three are fixed when the cluster is decided and signed with it, so all nodes agree, the answer never swings
with machines that come and go, and no clock decides.
"""

from __future__ import annotations

from kairos_core.cluster.quorum import Decision
from kairos_core.cluster.view import View


def stronger(view: View, decision: Decision, has_begun: bool) -> Decision | None:
    """Return the cluster that fences this decision off, None if it is the one that stays.

    `has_begun`: this node is its initialiser and has begun. Of this node's own claim the ledger may lag behind.
    """
    begun = {claim.cluster_id: claim for peer, claim in view.claims.items() if claim.init == peer != view.me}
    if has_begun:
        begun[decision.cluster_id] = decision
    if not begun:
        return None
    first = min(begun.values(), key=lambda each: (-each.seen, each.round, each.cluster_id))
    return first if first.cluster_id != decision.cluster_id else None
