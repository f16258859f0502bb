"""What must hold in every world: while it runs (`Watch`), and once it has healed (`unsettled`).

At most one node initialises a cluster in each generation. A decision never changes, and is of the generation that the
node takes part in. No ballot gets votes for two values. No node runs in a role that the decision does not give it. No
control plane is given up unless an operator says so. After healing all agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kairos_core.cluster import roles
from kairos_core.cluster.controller import Actions
from kairos_core.cluster.departure import Expulsion
from kairos_core.cluster.quorum import Ballot, Decision
from kairos_core.model import PeerId, Role

if TYPE_CHECKING:
    from kairos_core.testing.simulator.node import SimulatedNode
    from kairos_core.testing.simulator.world import World

Generation = tuple[str, int]
"""A network id and a generation: within one of these there is one cluster."""


class Violation(AssertionError):
    """A promise was broken. Says which, by whom and when."""


class Watch:
    """Looks at everything that any node decides, from outside, and remembers it for good."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.decided: dict[Generation, Decision] = {}
        self.initialisations: dict[Generation, tuple[PeerId, str, str]] = {}
        self.begun: dict[str, Decision] = {}  # every cluster that was initialised, by its id
        self.allows_rivals = False
        """Whether two clusters may be decided: only where more than 2q - 1 vote, which the fence is for."""
        self._expelled: set[tuple[str, PeerId]] = set()
        self._members: set[tuple[str, PeerId]] = set()
        self._votes: dict[tuple[Generation, Ballot], Decision] = {}

    def looked(self, node: SimulatedNode, before: Actions, after: Actions) -> None:
        """Check what a node has just decided to do."""
        register, decision = after.local.durable.ballots.register, after.decision
        if register is not None and register.ballot is not None and register.value is not None:
            self._voted(node, register.ballot, register.value)
        self._kept(node, before, after)
        if decision is not None and decision != before.decision:
            self._learnt(node, decision)
        if decision is not None and decision.generation < after.local.durable.generation:
            raise self._violation(f"{node.name} follows a decision of generation {decision.generation} in a later one")
        if after.role != before.role:
            self._world.note(node, f"takes the role {after.role or 'none yet'}")
        if decision is not None and after.plan is not None:
            self._took_role(node, after, decision)

    def started(self, node: SimulatedNode, actions: Actions) -> None:
        """Check the start of Kubernetes on a node: without an API server to join it initialises a cluster."""
        self.joined(node)
        if actions.plan is None or actions.plan.join is not None or actions.decision is None:
            return
        durable = actions.local.durable
        generation = _generation(node, actions.decision)
        this = (node.peer, durable.incarnation, actions.decision.cluster_id)
        first = self.initialisations.setdefault(generation, this)
        self.begun.setdefault(actions.decision.cluster_id, actions.decision)
        self._world.note(node, f"initialises cluster {actions.decision.cluster_id}")
        self._world.initialised.append((self._world.now, node.peer, durable.intent))
        if first != this and not self.allows_rivals:
            raise self._violation(f"two initialisers in {generation}: {_told(*first)}, then {_told(*this)}")
        if durable.intent != actions.decision.cluster_id:
            raise self._violation(f"{node.name} initialises {actions.decision.cluster_id} without a durable intent")

    def expelled(self, master: SimulatedNode, who: Expulsion) -> None:
        """Check that a master takes out only who has asked for it."""
        node = next(node for node in self._world.nodes if node.peer == who.peer)
        if not node.durable.leaving and node.view().wish_of(node.peer) is not Role.NONE:
            raise self._violation(f"{master.name} takes out {node.name}, which does not leave")
        self._world.note(master, f"takes {who.node_name} out of {who.cluster_id}")
        self._expelled.add((who.cluster_id, who.peer))
        self._members.discard((who.cluster_id, who.peer))
        node.kubernetes.was_expelled()

    def joined(self, node: SimulatedNode) -> None:
        """Note that a node is in a cluster."""
        if node.durable.runs is not None:
            self._members.add((node.durable.runs, node.peer))

    def left(self, node: SimulatedNode, decision: Decision | None) -> None:
        """Check that nothing of a node that has left is in the cluster."""
        if decision is not None and (decision.cluster_id, node.peer) in self._members:
            raise self._violation(f"{node.name} has left, and is still in {decision.cluster_id}")

    def ended(self, node: SimulatedNode) -> None:
        """Check that Kubernetes ends only on a node that is out of the cluster."""
        self._world.note(node, "removes Kubernetes")
        runs, decision = node.durable.runs, node.actions.decision
        is_of_it = runs is not None and decision is not None and decision.cluster_id == runs
        if is_of_it and (runs, node.peer) not in self._expelled:
            raise self._violation(f"{node.name} removes Kubernetes, and no master has taken it out of {runs}")

    def _kept(self, node: SimulatedNode, before: Actions, after: Actions) -> None:
        served, durable = before.local.durable.served, after.local.durable
        is_out = durable.runs is None and (served, node.peer) in self._expelled
        if served and durable.runs != served and not is_out:
            raise self._violation(f"{node.name} gives up the control plane of {served} for {durable.runs}, unasked")

    def _voted(self, node: SimulatedNode, ballot: Ballot, value: Decision) -> None:
        place = (_generation(node, value), ballot)
        if self._votes.setdefault(place, value) != value:
            raise self._violation(f"{node.name} votes for a second value of ballot {ballot.round}")

    def _learnt(self, node: SimulatedNode, decision: Decision) -> None:
        generation = _generation(node, decision)
        self._world.note(node, f"learns that {decision.init.short} initialises {decision.cluster_id}")
        first = self.decided.setdefault(generation, decision)
        if first != decision and not self.allows_rivals:
            raise self._violation(
                f"two decisions in {generation}: {first.cluster_id} and {decision.cluster_id}, learnt by {node.name}"
            )

    def _took_role(self, node: SimulatedNode, after: Actions, decision: Decision) -> None:
        role, is_init = (
            after.role,
            (node.peer, after.local.durable.incarnation) == (decision.init, decision.incarnation),
        )
        initialises = role in (Role.MASTER, Role.CLUSTER_INIT)
        if initialises != is_init:
            raise self._violation(f"{node.name} runs as {role}, and {decision.init.short} was to initialise")
        if role is Role.MASTER and decision.masters is not None:
            raise self._violation(f"{node.name} runs as the only master of a cluster that was decided to have several")

    def _violation(self, what: str) -> Violation:
        return Violation(f"at {self._world.now:.3f} s {what}")


def _told(peer: PeerId, incarnation: str, cluster_id: str) -> str:
    return f"{peer.short} ({incarnation[:8]}) of {cluster_id}"


def _generation(node: SimulatedNode, decision: Decision) -> Generation:
    return node.rules.network_id, decision.generation


def unsettled(world: World) -> Iterator[str]:
    """Yield what keeps a healed world from being at rest; nothing when all agree and each node has its role."""
    living = [node for node in world.nodes if node.is_up]
    if len({node.ledger.digest for node in living}) > 1:
        yield "the ledgers differ"
    peers = {node.peer for node in living}
    for node in living:
        if lacking := peers - {member.peer for member in node.gossip.membership.alive()} - {node.peer}:
            yield f"{node.name} does not know that {', '.join(sorted(p.short for p in lacking))} live"
    for network_id in dict.fromkeys(node.rules.network_id for node in living):
        yield from _unsettled_roles([node for node in living if node.rules.network_id == network_id])
    for author, key, value in world.written:
        entry = living[0].get("values", key) if living else None
        if entry is None or entry.content != value:
            yield f"what {author} wrote under values/{key} is lost"


def _unsettled_roles(nodes: list[SimulatedNode]) -> Iterator[str]:
    members = [node for node in nodes if node.kind == "node"]
    decisions = {node.actions.decision for node in members if node.rules.votes}
    if len(decisions) != 1 or None in decisions:
        yield f"{len(decisions)} opinions on the decision"
        return
    (decision,) = decisions
    assert decision is not None
    initialiser = (decision.init, decision.incarnation)
    first = [node for node in members if (node.peer, node.durable.incarnation) == initialiser and not held(node)]
    for node in members:
        # Without its initialiser, or while that one holds another cluster's control plane, an operator is waited for:
        # nobody may do that node's work instead.
        if first or node.actions.plan is not None:
            yield from _unsettled_role(node, decision)
    if len({roles.ha_masters(node.view(), decision) for node in members}) > 1:
        yield "nodes disagree about the HA masters"


def held(node: SimulatedNode) -> bool:
    """Say whether a node holds a control plane that the network has moved on from, and waits for its operator."""
    decision, served = node.actions.decision, node.durable.served
    is_replaced = node.actions.message.startswith("replaced")
    return decision is not None and bool(served) and (served != decision.cluster_id or is_replaced)


def _unsettled_role(node: SimulatedNode, decision: Decision) -> Iterator[str]:
    actions = node.actions
    if held(node):
        if actions.plan is not None or "kairos cluster adopt" not in actions.message:
            yield f"{node.name} holds {node.durable.served} and does not wait for its operator: {actions.phase}"
        return
    if node.peer == decision.init and node.durable.incarnation != decision.incarnation:
        if actions.plan is not None:
            yield f"{node.name} lost its disk and runs as {actions.role}"
    elif node.durable.leaving:
        yield f"{node.name} is still on its way out: {actions.phase}, {actions.message}"
    elif node.wish is Role.NONE:
        if actions.role is not Role.NONE:
            yield f"{node.name} is to take no role and has {actions.role}"
    elif actions.role is None or actions.phase != "ready":
        yield f"{node.name} has no running role: {actions.phase}, {actions.message}"
    elif actions.role is Role.HA and node.peer not in roles.ha_masters(node.view(), decision):
        yield f"{node.name} runs as an HA master and is assigned none"
