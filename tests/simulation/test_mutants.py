"""Mistakes that the simulator must notice: each is built into the real code, and some seed must break a promise.

Were one of these not caught, a real mistake of the kind would not be either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from kairos_core.cluster import controller, departure, election, quorum, reading, roles
from kairos_core.cluster.controller import Actions, Durable
from kairos_core.cluster.departure import Expulsion
from kairos_core.cluster.election import Candidacy, Election, Moment, Rules
from kairos_core.cluster.quorum import Ballots, Decision, Register, Round
from kairos_core.cluster.view import View
from kairos_core.model import PeerId, Role
from kairos_core.protocol import ledger
from kairos_core.testing.simulator import node
from kairos_core.testing.simulator.notary import SharedNotary
from kairos_core.testing.simulator.scenarios import SCENARIOS, Scenario
from kairos_core.testing.simulator.trial import play
from kairos_core.testing.simulator.world import World

pytestmark = pytest.mark.simulation

Patch = pytest.MonkeyPatch


def caught_after(scenario: Scenario, seeds: int) -> int | None:
    """Return how many seeds it takes until one breaks a safety promise, None when none of them does."""
    for seed in range(seeds):
        failure = play(scenario, seed).failure
        if failure is not None and "after all was well again" not in failure.reason:
            assert "Traceback" not in failure.reason, failure.reason  # a broken mutant would prove nothing
            return seed + 1
    return None


# -- wiped disks --------------------------------------------------------------------------------------------------


def forget_innocently(patch: Patch) -> None:
    """Let a machine that lost its promises begin as if it had never made any."""

    def fresh(incarnation: str, *, is_new: bool) -> Durable:
        return Durable(f"{'new' if is_new else 'wiped'}-{incarnation}")

    patch.setattr(node, "after_loss", fresh)
    patch.setattr(election, "is_outranked", lambda *_: False, raising=False)


def naive_recovery(patch: Patch) -> None:
    forget_innocently(patch)


def copy_without_barrier(patch: Patch) -> None:
    """A wiped voter takes over the highest of what `q` others show, without making them promise anything first."""
    forget_innocently(patch)
    right = election.elect

    def elect(view: View, rules: Rules, ballots: Ballots, candidacy: Candidacy, moment: Moment) -> Election:
        is_blank = ballots.register is None and rules.incarnation.startswith("wiped")
        others = [register for peer, register in view.registers.items() if peer != view.me]
        if is_blank and len(others) < rules.quorum:
            return right(view, replace(rules, votes=False), ballots, candidacy, moment)
        if is_blank:
            voted = [other for other in others if other.ballot]
            latest = max(voted, key=lambda other: other.ballot or other.promised, default=Register(others[0].promised))
            promised = max(other.promised for other in others)
            ballots = replace(ballots, register=replace(latest, promised=promised), max_round=promised.round)
        return right(view, rules, ballots, candidacy, moment)

    patch.setattr(controller, "elect", elect)


def no_fence(patch: Patch) -> None:
    """A wiped machine that was decided to be the initialiser initialises again."""
    patch.setattr(
        roles, "_init_role", lambda _, decision: Role.MASTER if decision.masters is None else Role.CLUSTER_INIT
    )
    patch.setattr(controller, "_is_other_disk", lambda *_: False, raising=False)


# -- votes and promises -------------------------------------------------------------------------------------------

right_decided = quorum.decided


def learner_counts_too_few(patch: Patch) -> None:
    def decided(registers: Mapping[PeerId, Register], needed: int) -> Decision | None:
        return right_decided(registers, needed - 1)

    patch.setattr(quorum, "decided", decided)


def proposer_ignores_votes(patch: Patch) -> None:
    def propose(round: Round, registers: Mapping[PeerId, Register], needed: int, wanted: Decision) -> Decision | None:
        promised = [register for register in registers.values() if register.promised >= round.ballot]
        return wanted if len(promised) >= needed else None

    patch.setattr(quorum, "propose", propose)


# -- more voters than the quorum promises for ---------------------------------------------------------------------


def too_many_voters(world: World) -> None:
    """Four voters and a quorum of two, which know each other before the network parts."""
    rules = Rules("kairos", quorum=2, nodes_to_start=2, expected=4)
    nodes = [world.add(rules) for _ in range(4)]
    world.meet_all(within=0.2)
    world.run(until=world.random.uniform(0.25, 0.75))
    for _ in range(4):
        shuffled = world.random.sample(nodes, 4)
        world.part(shuffled[:2], shuffled[2:])
        world.run(until=world.now + world.random.uniform(0.5, 12.0))
    world.heal()
    world.meet_all(within=1.0)
    world.settle(60.0)


def reads_only_the_quorum(patch: Patch) -> None:
    patch.setattr(quorum, "read_quorum", lambda needed, _voters: needed)


TOO_MANY = Scenario("too_many_voters", too_many_voters, "")

# -- generations, fences, and a member that lies -------------------------------------------------------------------

right_fence = controller._fence


def keeps_its_votes(patch: Patch) -> None:
    """What was voted for and begun in one generation goes on in the next."""

    def moved(durable: Durable, generation: int) -> Durable:
        return replace(durable, generation=generation) if generation > durable.generation else durable

    patch.setattr(controller, "in_generation", moved)


def gives_up_unasked(patch: Patch) -> None:
    """A master of an earlier generation joins the next one by itself, and loses its data."""
    patch.setattr(controller, "_why_held", lambda *_: "")


def both_clusters_stay(patch: Patch) -> None:
    patch.setattr(controller, "stronger", lambda *_: None)


def fenced_still_offers(patch: Patch) -> None:
    """A fenced cluster says so, and goes on offering its API server."""

    def fence(base: Actions, view: View, rival: Decision) -> Actions:
        return replace(right_fence(base, view, rival), publish=base.publish, share=base.share)

    patch.setattr(controller, "_fence", fence)


def every_round_is_heard(patch: Patch) -> None:
    patch.setattr(quorum, "REACH", 1 << 70)


def every_generation_is_heard(patch: Patch) -> None:
    patch.setattr(reading, "GENERATION_REACH", 1 << 40)


def no_signature_is_checked(patch: Patch) -> None:
    patch.setattr(SharedNotary, "is_authentic", lambda *_: True)


def anybody_writes_any_key(patch: Patch) -> None:
    patch.setattr(ledger, "is_writer", lambda *_: True)


def nobody_is_waited_for(patch: Patch) -> None:
    """Whoever leaves removes its Kubernetes at once, although it is still in the cluster."""
    patch.setattr(departure, "is_out", lambda *_: True)


def nobody_makes_sure(patch: Patch) -> None:
    """Whoever leaves is content with having been taken out while its Kubernetes ran."""
    patch.setattr(departure, "is_over", lambda *_: True)


def everybody_is_taken_out(patch: Patch) -> None:
    """A master takes out whom it knows, not whoever asks for it."""

    def all_of_them(view: View, decision: Decision) -> tuple[Expulsion, ...]:
        return tuple(Expulsion(decision.cluster_id, peer, "") for peer in view.nodes if peer != view.me)

    patch.setattr(departure, "expulsions", all_of_them)


def only_the_first_one_assigns(patch: Patch) -> None:
    patch.setattr(roles, "assigner", lambda _view, decision, _lost: decision.init)


@pytest.mark.parametrize(
    ("mutate", "name", "told"),
    [
        (keeps_its_votes, "new_generations", "follows a decision of generation"),
        (gives_up_unasked, "new_generations", "gives up the control plane"),
        (both_clusters_stay, "two_clusters_meet", "not fenced off"),
        (fenced_still_offers, "two_clusters_meet", "fenced off and shares"),
        (every_round_is_heard, "absurd_claims", "after all was well again"),
        (every_generation_is_heard, "absurd_claims", "only the liar asked for"),
        (no_signature_is_checked, "forged_entries", "did not write"),
        (anybody_writes_any_key, "forged_entries", "did not write"),
        (nobody_is_waited_for, "departures", "no master has taken it out"),
        (nobody_makes_sure, "departures", "has left, and is still in"),
        (everybody_is_taken_out, "departures", "which does not leave"),
        (only_the_first_one_assigns, "lost_masters", "serve instead of three"),
    ],
)
def test_what_operators_and_liars_do_is_caught(
    mutate: Callable[[Patch], None], name: str, told: str, monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    failures = [failure.reason for seed in range(40) if (failure := play(SCENARIOS[name], seed).failure)]
    assert any(told in reason for reason in failures), failures[:3]


MUTANTS: list[tuple[Callable[[Patch], None], Scenario, int]] = [
    (naive_recovery, SCENARIOS["wiped_disk"], 60),
    (copy_without_barrier, SCENARIOS["wiped_disk"], 400),
    (no_fence, SCENARIOS["wiped_disk"], 60),
    (learner_counts_too_few, SCENARIOS["partition_during_start"], 60),
    (proposer_ignores_votes, SCENARIOS["partition_during_start"], 200),
    (reads_only_the_quorum, TOO_MANY, 100),
]


@pytest.mark.simulation
@pytest.mark.parametrize(("mutate", "scenario", "seeds"), MUTANTS, ids=[mutate.__name__ for mutate, *_ in MUTANTS])
def test_the_scenarios_catch(
    mutate: Callable[[Patch], None], scenario: Scenario, seeds: int, monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    assert caught_after(scenario, seeds) is not None, f"{mutate.__name__} went unnoticed for {seeds} seeds"


@pytest.mark.simulation
def test_too_many_voters_are_no_danger_while_proposers_read_enough() -> None:
    assert caught_after(TOO_MANY, 100) is None
