"""One node's part in the election of the initialiser: when it votes, when it leads, when it waits.

Waiting until the network has settled makes a good choice likely; that two choices are impossible is the work of
`quorum`, whatever the timing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kairos_core.cluster import quorum, roles
from kairos_core.cluster.quorum import Ballots, Decision, Recovery, Round
from kairos_core.cluster.recovery import is_outranked, recover
from kairos_core.cluster.view import View
from kairos_core.model import PeerId
from kairos_core.protocol import buckets

SETTLE = 10.0
"""Seconds without a newcomer before a leader proposes. Raising it lets slow machines be chosen and counted;
lowering it starts sooner. Quality only: safety needs no waiting."""

SETTLE_ALL_HERE = 0.3
"""The same when as many nodes are here as are expected: there is nobody left to wait for."""

PATIENCE = 1.0
"""Seconds (up to twice as many, by chance) until a leader opens another round. Raising it slows the recovery from
loss; lowering it makes two leaders overtake each other."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the election goes by; the same on all nodes of a network but for `incarnation` and `votes`."""

    network_id: str
    incarnation: str = ""
    votes: bool = True
    quorum: int = 2
    nodes_to_start: int = 2
    expected: int | None = None  # with so many here there is nobody left to wait for
    ha_masters: int | None = None  # None: no HA


@dataclass(frozen=True, slots=True)
class Candidacy:
    """What this process remembers of the election beside the durable ballots. Times are monotonic seconds."""

    seen: tuple[PeerId, ...] = ()
    since: float = 0.0
    round: Round | None = None


@dataclass(frozen=True, slots=True)
class Election:
    """The outcome of one look: what to save, what to publish, and what to tell people."""

    ballots: Ballots
    candidacy: Candidacy
    publish: tuple[tuple[str, str, Any], ...] = ()
    phase: str = "deciding"
    message: str = ""
    wake_at: float = float("inf")


@dataclass(frozen=True, slots=True)
class Moment:
    """When we look, and chance: `now` is monotonic seconds, `draw` gives uniform numbers in [0, 1)."""

    now: float
    draw: Callable[[], float]


def elect(view: View, rules: Rules, ballots: Ballots, candidacy: Candidacy, moment: Moment) -> Election:
    """Vote, learn, and lead if it is our turn. Publish nothing of this before `ballots` is saved (fsync)."""
    if rules.votes:
        ballots = _take_part(view, rules, ballots)
    registers = dict(view.registers)
    if ballots.register is not None and ballots.recovery is None:
        registers[view.me] = ballots.register
    if ballots.decided is None and (proven := quorum.decided(registers, rules.quorum)) is not None:
        ballots = replace(ballots, decided=proven)
    own = _own_entries(view, rules, ballots)
    if ballots.decided is not None or not rules.votes:
        return Election(ballots, candidacy, own)
    candidates = view.candidates()
    if candidates != candidacy.seen:
        candidacy = replace(candidacy, seen=candidates, since=moment.now)
    election = Election(ballots, candidacy, own)
    if ballots.recovery is not None:
        return replace(election, message=_why_silent(view, rules))
    return _lead(replace(view, registers=registers), rules, election, moment)


def _take_part(view: View, rules: Rules, ballots: Ballots) -> Ballots:
    """Vote, or get over the loss of our memory first."""
    if ballots.recovery is None and is_outranked(ballots, view.registers.get(view.me)):
        ballots = replace(ballots, recovery=Recovery())
    if ballots.recovery is None:
        return quorum.vote(ballots, view.prepares.values(), view.proposals.values())
    seen = [*view.prepares.values(), *(ballot for ballot, _ in view.proposals.values())]
    return recover(view.me, ballots, view.registers, seen, _enough(view, rules))


def is_stranded(view: View, rules: Rules) -> bool:
    """Say whether a voter without memory cannot come back, since there are too few others to tell it what it promised.

    So it is with as many voters as the quorum, two of two: whoever is asked is needed for the decision too.
    """
    return len(view.voters() - {view.me}) < _enough(view, rules)


def _why_silent(view: View, rules: Rules) -> str:
    if is_stranded(view, rules):
        return (
            "what this machine has promised in the election was lost with its disk, and too few other nodes vote to "
            "say what it was: add a machine, or begin a new election: kairos cluster new-generation"
        )
    return (
        "what this machine has promised in the election was lost with its disk, so it does not vote until "
        f"{_enough(view, rules)} other nodes that vote have answered; are all of them running?"
    )


def _lead(view: View, rules: Rules, election: Election, moment: Moment) -> Election:
    """Open a round or propose a value if this node is the first of those who may."""
    # minimum_nodes is for the first start: who asks for a new generation has lost a machine, and starts with the rest.
    least = rules.nodes_to_start if view.generation == 1 else 1
    here, needed = len(election.candidacy.seen), max(rules.quorum, least)
    if here < needed:
        phase = "discovering" if here <= 1 else "deciding"
        return replace(election, phase=phase, message=f"{here} of {needed} nodes are here; waiting for the others")
    who = roles.initialisers(view, view.generation)
    if not who:
        return replace(election, message="no node may initialise the cluster: p2p.role forces all of them otherwise")
    if who[0] != view.me:
        return replace(election, message=f"{here} nodes are here; {who[0].short} leads the decision")
    settle = SETTLE_ALL_HERE if rules.expected is not None and here >= rules.expected else SETTLE
    starts = election.candidacy.since + settle
    if moment.now < starts:
        return replace(election, message=f"{here} nodes are here; waiting for more to come", wake_at=starts)
    round = election.candidacy.round
    if round is None or moment.now > round.started + round.patience:
        return _open_round(view, rules, election, moment)
    return _propose(view, rules, election, round, moment)


def _open_round(view: View, rules: Rules, election: Election, moment: Moment) -> Election:
    seen = [r.promised for r in view.registers.values()] + list(view.prepares.values())
    ballot = quorum.next_ballot(view.me, election.ballots, seen)
    if ballot.round > quorum.LAST_ROUND:
        return replace(election, message="all rounds of this election are used up: kairos cluster new-generation")
    round = Round(ballot, moment.now, PATIENCE * (1 + moment.draw()))
    # Our own promise belongs to the same save.
    ballots = quorum.vote(replace(election.ballots, max_round=ballot.round), [ballot], [])
    prepare = (buckets.PREPARES, _key(view, rules), [ballot.encode(), None])
    return replace(
        election,
        ballots=ballots,
        candidacy=replace(election.candidacy, round=round),
        publish=(*_own_entries(view, rules, ballots), prepare),
        message=f"asking {len(election.candidacy.seen)} nodes for their promise",
        wake_at=moment.now + round.patience,
    )


def _propose(view: View, rules: Rules, election: Election, round: Round, moment: Moment) -> Election:
    election = replace(election, wake_at=round.started + round.patience, message="waiting for promises and votes")
    if round.proposed:
        return election
    enough = _enough(view, rules)
    wanted = _wanted(view, rules, round, moment)
    value = quorum.propose(round, view.registers, enough, wanted)
    if value is None:
        return replace(election, message=f"waiting for the promises of {enough} nodes; are all of them running?")
    ballots = quorum.vote(election.ballots, [], [(round.ballot, value)])
    proposal = (buckets.PROPOSALS, _key(view, rules), [round.ballot.encode(), value.encode()])
    return replace(
        election,
        ballots=ballots,
        candidacy=replace(election.candidacy, round=replace(round, proposed=True)),
        publish=(*_own_entries(view, rules, ballots), proposal),
    )


def _enough(view: View, rules: Rules) -> int:
    return quorum.read_quorum(rules.quorum, len(view.voters()))


def _wanted(view: View, rules: Rules, round: Round, moment: Moment) -> Decision:
    cluster_id = f"{rules.network_id}-{int(moment.draw() * (1 << 48)):012x}"
    ha = roles.first_ha(view, view.me, rules.ha_masters or 0, view.generation)
    here = len(view.candidates())
    return Decision(
        cluster_id, view.me, rules.incarnation, ha, rules.ha_masters, view.generation, here, round.ballot.round
    )


def _own_entries(view: View, rules: Rules, ballots: Ballots) -> tuple[tuple[str, str, Any], ...]:
    """Return what should stand in the ledger of our part as a voter: our register, or while we are silent our barrier.

    The register of our lost self stays as it is: it is signed, and still true.
    """
    key, recovery = _key(view, rules), ballots.recovery
    if not rules.votes:
        return ()
    if recovery is not None:
        return ((buckets.PREPARES, key, [recovery.barrier.encode(), None]),) if recovery.barrier else ()
    return ((buckets.REGISTERS, key, ballots.register.encode()),) if ballots.register else ()


def _key(view: View, rules: Rules) -> str:
    return f"{rules.network_id}/{view.generation}/{view.me}"


def guarantee(view: View, rules: Rules) -> str:
    """Say in one sentence what is promised about "never two clusters" with this configuration."""
    count, bound = len(view.voters()), 2 * rules.quorum - 1
    if count <= bound:
        return (
            f"at most one cluster under any partition, loss or crash: {count} nodes may vote and {rules.quorum} "
            "votes decide"
        )
    return (
        f"at most one cluster as long as nodes know of each other when it is decided: {count} nodes may vote and "
        f"{rules.quorum} votes decide, which alone rules out two clusters for up to {bound}. For a promise that holds "
        f"under any partition make the token with: kairos generate-token --nodes {count}"
    )
