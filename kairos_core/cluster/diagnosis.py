"""What `kairos doctor` looks at: a list of small checks, each a function of one examination.

A check returns what it found: `ok` (as it should be), `note` (works, and promises less than it could) or `wrong`, and
for the last two the command or the deed that mends it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kairos_core.cluster import roles
from kairos_core.cluster.controller import Actions, Spec
from kairos_core.cluster.election import guarantee, is_stranded
from kairos_core.cluster.quorum import read_quorum
from kairos_core.cluster.view import View
from kairos_core.model import Finding, PeerId, Role, Verdict


@dataclass(frozen=True, slots=True)
class Examination:
    """All that the checks look at."""

    view: View
    spec: Spec
    actions: Actions
    clock: str | None = None  # what is wrong with this machine's clock
    plugins: Sequence[Mapping[str, str]] = ()
    warnings: Sequence[str] = ()

    def name_of(self, peer: PeerId) -> str:
        node = self.view.nodes.get(peer)
        return node.name if node and node.name else peer.short


def examine(examination: Examination) -> tuple[Finding, ...]:
    """Return what each check found, in the order in which to read it."""
    findings = (check(examination) for check in CHECKS)
    return tuple(finding for finding in findings if finding is not None)


def _guarantee(it: Examination) -> Finding | None:
    if not it.spec.automatic:
        return None
    rules, count = it.spec.rules, len(it.view.voters())
    expected = f", {rules.expected} nodes are expected" if rules.expected else ""
    message = f"{guarantee(it.view, rules)} (generation {it.view.generation}{expected})"
    if count <= 2 * rules.quorum - 1:
        return Finding("guarantee", Verdict.OK, message)
    return Finding("guarantee", Verdict.NOTE, message, f"kairos generate-token --nodes {count}")


def _quorum(it: Examination) -> Finding | None:
    """Before the decision: are enough of those that vote here to decide?"""
    if it.actions.decision is not None or not it.spec.automatic:
        return None
    known = it.view.voters()
    here, needed = len(known & it.view.alive), read_quorum(it.spec.rules.quorum, len(known))
    message = f"nothing is decided yet; {here} of the {len(known)} nodes that vote are here, {needed} are needed"
    if here >= needed:
        return Finding("quorum", Verdict.NOTE, message, "kairos status --watch")
    return Finding("quorum", Verdict.WRONG, message, "start the nodes that are off: kairos start")


def _memory(it: Examination) -> Finding | None:
    if it.actions.local.durable.ballots.recovery is None:
        return None
    verdict = Verdict.WRONG if it.actions.decision is None else Verdict.NOTE
    message = (
        "what this machine has promised in the election was lost with its disk; it does not vote until it recovers"
    )
    if is_stranded(it.view, it.spec.rules):
        message += f"; {len(it.view.voters() - {it.view.me})} others vote, too few to tell it"
        return Finding("memory", verdict, message, "add a machine, or: kairos cluster new-generation")
    return Finding("memory", verdict, message, "start the other nodes that vote: kairos start")


def _one_cluster(it: Examination) -> Finding | None:
    """Is there a second cluster, decided or started by hand?"""
    rival, decision = it.actions.fenced_by, it.actions.decision
    if rival is not None and decision is not None:
        message = f"two clusters were decided; {rival.cluster_id} stays and ours, {decision.cluster_id}, is fenced off"
        return Finding("one cluster", Verdict.WRONG, message, f"kairos cluster adopt {rival.cluster_id}")
    if decision is not None:
        others = {c.cluster_id for c in it.view.claims.values()} - {decision.cluster_id}
        if others:
            message = (
                f"ours, {decision.cluster_id}, stays; some nodes have another, fenced off: {', '.join(sorted(others))}"
            )
            remedy = f"on those nodes: kairos cluster adopt {decision.cluster_id}"
            return Finding("one cluster", Verdict.WRONG, message, remedy)
        return Finding("one cluster", Verdict.OK, f"all nodes are of cluster {decision.cluster_id}")
    by_hand = sorted(it.name_of(p) for p, r in it.view.reports.items() if r.role == Role.MASTER and p in it.view.nodes)
    if not it.spec.automatic and len(by_hand) > 1:
        message = f"{len(by_hand)} masters were set by hand, each with a cluster of its own: {', '.join(by_hand)}"
        return Finding("one cluster", Verdict.WRONG, message, "set p2p.role: worker on all but one of them")
    return None


def _initialiser(it: Examination) -> Finding | None:
    """Does the first master live, with the disk that made the cluster?"""
    decision, view = it.actions.decision, it.view
    if decision is None:
        return None
    name, node = it.name_of(decision.init), view.nodes.get(decision.init)
    others = roles.masters(view, decision) & view.alive - {decision.init}
    verdict = Verdict.NOTE if others else Verdict.WRONG
    give_up = "kairos cluster new-generation"
    is_replaced = decision.masters is not None and len(roles.ha_masters(view, decision)) > decision.masters
    if is_replaced and others and decision.init not in view.alive:
        return Finding("first master", Verdict.OK, f"{name} is gone, and another master has taken its place")
    if node is not None and node.incarnation != decision.incarnation:
        message = f"the disk of {name}, which initialised the cluster, was replaced; it will not initialise another"
        return Finding("first master", verdict, message, f"restore its disk, or: {give_up}")
    if decision.init not in view.alive:
        rest = f"; {len(others)} further masters are here" if others else ", and there is no other master"
        remedy = f"start {name} again" + ("" if others else f"; if it is lost for good: {give_up}")
        return Finding("first master", verdict, f"{name} does not answer{rest}", remedy)
    return Finding("first master", Verdict.OK, f"{name} is here")


def _further_masters(it: Examination) -> Finding | None:
    decision = it.actions.decision
    if decision is None or not decision.masters:
        return None
    listed = roles.ha_masters(it.view, decision)
    silent = sorted(it.name_of(peer) for peer in listed if peer not in it.view.alive)
    if silent:
        after = f"replaced after {it.spec.patience:.0f} s if another node is free"
        message = f"{', '.join(silent)} does not answer; {after}"
        return Finding("further masters", Verdict.WRONG, message, "start it again")
    if len(listed) < decision.masters:
        message = f"{len(listed)} of {decision.masters} further masters are assigned"
        return Finding("further masters", Verdict.NOTE, message, "start more nodes: kairos start")
    return Finding("further masters", Verdict.OK, f"all {len(listed)} are here")


def _held(it: Examination) -> Finding | None:
    """Does this disk hold a control plane that the network has moved on from?"""
    served, decision = it.actions.local.durable.served, it.actions.decision
    if decision is None or it.actions.phase != "waiting" or not served:
        return None
    return Finding("this disk", Verdict.WRONG, it.actions.message, f"kairos cluster adopt {decision.cluster_id}")


def _engine(it: Examination) -> Finding | None:
    if it.actions.phase != "failed":
        return None
    return Finding("Kubernetes", Verdict.WRONG, it.actions.message, "kairos status")


def _clock(it: Examination) -> Finding | None:
    if it.clock:
        return Finding("clock", Verdict.WRONG, it.clock, "timedatectl set-ntp true")
    return Finding("clock", Verdict.OK, "this machine's clock agrees with the network's")


def _plugins(it: Examination) -> Finding | None:
    broken = [f"{row.get('name', '')} ({row['reason']})" for row in it.plugins if row.get("state") == "failed"]
    if broken:
        return Finding("plugins", Verdict.WRONG, f"cannot be loaded: {'; '.join(broken)}", "kairos plugins list")
    return Finding("plugins", Verdict.OK, f"{len(it.plugins)} are installed")


def _warnings(it: Examination) -> Finding | None:
    if not it.warnings:
        return None
    return Finding("warnings", Verdict.WRONG, "; ".join(it.warnings), "kairos status")


CHECKS: tuple[Callable[[Examination], Finding | None], ...] = (
    _guarantee,
    _quorum,
    _memory,
    _one_cluster,
    _initialiser,
    _further_masters,
    _held,
    _engine,
    _clock,
    _plugins,
    _warnings,
)
"""All checks, the most fundamental first."""
