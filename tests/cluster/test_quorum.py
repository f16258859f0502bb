"""Register-Paxos under the worst of schedules: every order, repetition and loss that a ledger allows."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

import pytest

from kairos_core.cluster import quorum as paxos
from kairos_core.cluster import recovery
from kairos_core.cluster.quorum import Ballot, Ballots, Decision, Recovery, Register, Round
from kairos_core.model import PeerId

PEERS = [PeerId(bytes([n]) * 32) for n in range(1, 8)]


@dataclass
class Voter:
    """A node with the messages that have reached it."""

    peer: PeerId
    state: Ballots = field(default_factory=Ballots)
    round: Round | None = None
    prepares: dict[PeerId, Ballot] = field(default_factory=dict)
    registers: dict[PeerId, Register] = field(default_factory=dict)
    proposals: dict[PeerId, tuple[Ballot, Decision]] = field(default_factory=dict)
    incarnation: int = 0
    intent: str | None = None

    def gossip_from(self, other: "Voter", random: Random) -> None:
        for name in ("prepares", "registers", "proposals"):
            mine, theirs = getattr(self, name), getattr(other, name)
            for peer, message in theirs.items():
                if random.random() < 0.5 and rank(message) > rank(mine.get(peer)):
                    mine[peer] = message

    def vote(self, enough: int) -> None:
        if self.state.recovery:
            self.recover(enough)
            return
        self.state = paxos.vote(self.state, self.prepares.values(), self.proposals.values())
        if self.state.register:
            self.registers[self.peer] = self.state.register

    def recover(self, enough: int) -> None:
        seen = [*self.prepares.values(), *(ballot for ballot, _ in self.proposals.values())]
        self.state = recovery.recover(self.peer, self.state, self.registers, seen, enough)
        if self.state.recovery and self.state.recovery.barrier:
            self.prepares[self.peer] = self.state.recovery.barrier
        if self.state.register:
            self.registers[self.peer] = self.state.register

    def open(self) -> None:
        if self.state.recovery:
            return
        ballot = paxos.next_ballot(self.peer, self.state, self.prepares.values())
        self.state = replace(self.state, max_round=ballot.round)
        self.round = Round(ballot, 0.0, 1.0)
        self.prepares[self.peer] = ballot

    def propose(self, read: int) -> None:
        if self.round and not self.round.proposed:
            name = f"cluster-of-{self.peer.short}-{self.round.ballot.round}-{self.incarnation}"
            wanted = Decision(name, self.peer, str(self.incarnation))
            value = paxos.propose(self.round, self.registers, read, wanted)
            if value:
                self.round = replace(self.round, proposed=True)
                self.proposals[self.peer] = (self.round.ballot, value)

    def lie(self, random: Random) -> None:
        """Claim rounds that nobody could follow: the last ones, or some beyond reach."""
        round = random.choice([paxos.LAST_ROUND, paxos.LAST_ROUND - 1, self.state.max_round + 8 * paxos.REACH])
        ballot, value = Ballot(round, self.peer), Decision(f"lie-{round}", self.peer, "0")
        self.prepares[self.peer] = ballot
        self.registers[self.peer] = Register(ballot, random.choice([ballot, None]), value)
        self.proposals[self.peer] = (ballot, value)

    def crash(self) -> None:
        """Keep what is durable; forget what reached us, and our round."""
        self.prepares, self.registers, self.proposals, self.round = {}, {}, {}, None

    def wipe(self) -> None:
        """Lose the disk too, all but the identity."""
        self.crash()
        self.state, self.intent = Ballots(recovery=Recovery()), None
        self.incarnation += 1

    def initialise(self, value: Decision) -> bool:
        """Begin the cluster if the decision is for this disk. Says whether that is news."""
        if self.intent is not None or not is_chosen(self, value):
            return False
        self.intent = value.cluster_id
        return True


def is_chosen(node: Voter, value: Decision) -> bool:
    return (value.init, value.incarnation) == (node.peer, str(node.incarnation))


def rank(message: object) -> bytes:
    match message:
        case None:
            return b""
        case Ballot():
            return message.encode()
        case Register():
            return message.encode()[0]
        case (ballot, _):
            return ballot.encode()


@dataclass
class Outcome:
    """What a schedule led to."""

    learnt: set[Decision] = field(default_factory=set)
    initialised: list[PeerId] = field(default_factory=list)
    wipes: int = 0
    recovered: int = 0

    @property
    def is_violated(self) -> bool:
        return len(self.learnt) > 1 or len(self.initialised) > 1


def play(seed: int, voters: int, quorum: int, wipe_weight: float = 0.0, *, is_ignorant: bool = False) -> Outcome:
    """Run a random schedule of all that may happen.

    The ignorant live in two halves that never hear of each other, and count as voters only those they have heard.
    """
    random = Random(seed)
    nodes = [Voter(peer) for peer in PEERS[:voters]]
    read, outcome = paxos.read_quorum(quorum, voters), Outcome()
    for _ in range(120 * voters):
        node = random.choice(nodes)
        other = random.choice(nodes[nodes.index(node) % 2 :: 2] if is_ignorant else nodes)
        acts = [
            partial(node.gossip_from, other, random),
            partial(node.vote, read),
            node.open,
            partial(node.propose, read),
            node.crash,
            node.wipe,
        ]
        if is_ignorant:
            acts[3] = partial(node.propose, paxos.read_quorum(quorum, len(node.registers)))
        was_lost = node.state.recovery is not None
        # As the proof asks, no second disk is lost while one is.
        wipe = wipe_weight if not any(each.state.recovery for each in nodes) else 0.0
        [act] = random.choices(acts, weights=[16, 8, 0.25 if node.round else 1, 6, 0.1, wipe])
        act()
        outcome.wipes += act is acts[5]
        outcome.recovered += was_lost and node.state.recovery is None
        value = paxos.decided(node.registers, quorum)
        if value:
            outcome.learnt.add(value)
            if node.initialise(value):
                outcome.initialised.append(node.peer)
    return outcome


def play_with_a_liar(seed: int, voters: int, quorum: int) -> set[Decision]:
    """Run a random schedule in which one of the voters claims absurd rounds, and return what the others learnt."""
    random = Random(seed)
    nodes, read, learnt = [Voter(peer) for peer in PEERS[:voters]], paxos.read_quorum(quorum, voters), set()
    liar, honest = nodes[0], nodes[1:]
    for _ in range(120 * voters):
        node = random.choice(honest)
        acts = [partial(node.gossip_from, random.choice(nodes), random), partial(node.vote, read), node.open]
        acts += [partial(node.propose, read), node.crash, partial(liar.lie, random)]
        [act] = random.choices(acts, weights=[16, 8, 0.25 if node.round else 1, 6, 0.1, 0.5])
        act()
        value = paxos.decided(node.registers, quorum)
        learnt |= {value} if value else set()
    return learnt


def decisions(seed: int, voters: int, quorum: int) -> set[Decision]:
    return play(seed, voters, quorum).learnt


@pytest.mark.simulation
@pytest.mark.parametrize(("voters", "quorum"), [(1, 1), (2, 2), (3, 2), (5, 3), (7, 4), (4, 2), (5, 2)])
def test_at_most_one_value_is_ever_decided(voters: int, quorum: int) -> None:
    reached = 0
    for seed in range(400):
        learnt = decisions(seed, voters, quorum)
        assert len(learnt) <= 1, f"two decisions with seed {seed}"
        reached += len(learnt)
    assert reached > 40, "the schedules should often reach a decision"


@pytest.mark.simulation
@pytest.mark.parametrize(("voters", "quorum"), [(3, 2), (5, 3), (7, 4)])
def test_a_voter_that_claims_the_last_rounds_ends_no_election(voters: int, quorum: int) -> None:
    outcomes = [play_with_a_liar(seed, voters, quorum) for seed in range(200)]
    assert all(len(learnt) <= 1 for learnt in outcomes)
    assert not any(value.cluster_id.startswith("lie") for learnt in outcomes for value in learnt)
    assert sum(map(len, outcomes)) > 40, "the schedules should often reach a decision"


@pytest.mark.simulation
def test_without_a_reach_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paxos, "REACH", 1 << 70)
    with pytest.raises(OverflowError):  # a round above the last one cannot be written
        [play_with_a_liar(seed, 3, 2) for seed in range(20)]


def test_a_ballot_out_of_reach_is_as_one_that_has_not_come() -> None:
    near, far = Ballot(paxos.REACH, PEERS[0]), Ballot(paxos.REACH + 1, PEERS[1])
    value = Decision("kairos-1", PEERS[0], "1")
    assert paxos.vote(Ballots(), [far], [(far, value)]) == Ballots()
    assert paxos.vote(Ballots(), [near, far], []).register == Register(near)
    assert paxos.next_ballot(PEERS[2], Ballots(), [near, far]) == Ballot(paxos.REACH + 1, PEERS[2])
    registers = {PEERS[0]: Register(Ballot(1, PEERS[0])), PEERS[1]: Register(Ballot(far.round + 1, PEERS[1]))}
    ours = Round(Ballot(1, PEERS[0]), 0.0, 1.0)
    assert paxos.propose(ours, registers, 1, value) == value
    assert paxos.propose(ours, registers, 2, value) is None, "it is no promise for ours either"


def test_votes_for_another_value_under_the_same_ballot_do_not_count_together() -> None:
    ballot = Ballot(1, PEERS[0])
    one, other = Decision("kairos-1", PEERS[0], "1"), Decision("kairos-2", PEERS[2], "1")
    registers = {PEERS[2]: Register(ballot, ballot, other), PEERS[0]: Register(ballot, ballot, one)}
    assert paxos.decided(registers, 2) is None
    registers[PEERS[1]] = Register(ballot, ballot, one)
    assert paxos.decided(registers, 2) == one


def test_a_voter_without_memory_is_silent_where_the_last_rounds_are_claimed() -> None:
    claimed = {PEERS[1]: Register(Ballot(paxos.LAST_ROUND, PEERS[1]))}
    state = Ballots(recovery=Recovery())
    assert recovery.recover(PEERS[0], state, claimed, [], 1) == state
    barred = recovery.recover(PEERS[0], state, {}, [], 1)
    assert barred.recovery is not None
    assert barred.recovery.barrier is not None
    assert recovery.recover(PEERS[0], barred, claimed, [], 1) == barred, "no barrier that an honest voter can promise"


_decided = paxos.decided


def _careless_vote(state: Ballots, prepares: Iterable[Ballot], proposals: Iterable[tuple[Ballot, Decision]]) -> Ballots:
    register = state.register
    for ballot in prepares:
        if register is None or ballot > register.promised:
            register = replace(register, promised=ballot) if register else Register(ballot)
    for ballot, value in proposals:
        if register and (register.ballot is None or ballot > register.ballot):
            register = Register(max(register.promised, ballot), ballot, value)
    return replace(state, register=register)


MUTANTS = {
    "a proposer that ignores votes": ("propose", lambda round, registers, quorum, wanted: (
        wanted if sum(r.promised >= round.ballot for r in registers.values()) >= quorum else None)),
    "a proposer that reads too few registers": ("read_quorum", lambda quorum, voters: 1),
    "a learner that counts too few votes": ("decided", lambda registers, quorum: _decided(registers, 1)),
    "a voter that votes below its promise": ("vote", _careless_vote),
}  # fmt: skip


@pytest.mark.simulation
@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_the_schedules_above_catch(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, broken = MUTANTS[mutant]
    monkeypatch.setattr(paxos, name, broken)
    assert any(len(decisions(seed, 5, 3)) > 1 for seed in range(400))


WIPE = 0.15
"""How often a schedule loses a disk, beside 16 for gossip: often before and after the decision."""


@pytest.mark.simulation
@pytest.mark.parametrize(("voters", "seeds"), [(3, 600), (5, 300), (7, 200)])
def test_lost_disks_never_lead_to_a_second_decision_or_a_second_initialiser(voters: int, seeds: int) -> None:
    learnt = wipes = recovered = 0
    for seed in range(seeds):
        outcome = play(seed, voters, voters // 2 + 1, WIPE)
        assert not outcome.is_violated, f"violated with seed {seed}"
        learnt, wipes, recovered = learnt + len(outcome.learnt), wipes + outcome.wipes, recovered + outcome.recovered
    assert learnt > seeds / 10, "the schedules should often reach a decision"
    assert wipes > seeds, "disks should be lost"
    assert recovered > wipes / 3, "and voters come back"


@pytest.mark.simulation
@pytest.mark.parametrize(("voters", "quorum"), [(3, 2), (5, 3)])
def test_up_to_2q_minus_1_voters_the_ignorant_do_no_harm(voters: int, quorum: int) -> None:
    outcomes = [play(seed, voters, quorum, is_ignorant=True) for seed in range(200)]
    assert not any(outcome.is_violated for outcome in outcomes)
    assert sum(len(outcome.learnt) for outcome in outcomes) > 30


@pytest.mark.parametrize(("voters", "quorum"), [(4, 2), (7, 3)])
def test_beyond_2q_minus_1_voters_an_ignorant_proposer_breaks_the_promise_as_documented(
    voters: int, quorum: int
) -> None:
    assert any(play(seed, voters, quorum, is_ignorant=True).is_violated for seed in range(100))


def _naive(me: PeerId, state: Ballots, registers: object, seen: object, enough: int) -> Ballots:
    return Ballots()


def _copied(me: PeerId, state: Ballots, registers: dict[PeerId, Register], seen: object, enough: int) -> Ballots:
    """Believe what others happen to show, without asking them to promise anything."""
    others = [register for peer, register in registers.items() if peer != me]
    if len(others) < enough:
        return state
    latest = max(others, key=lambda register: register.ballot.encode() if register.ballot else b"")
    promised = max(register.promised for register in others)
    return Ballots(Register(promised, latest.ballot, latest.value), promised.round)


WIPED_MUTANTS = {
    "a wiped voter that votes at once": (recovery, "recover", _naive),
    "a wiped voter that copies the others without a barrier": (recovery, "recover", _copied),
    "a wiped initialiser without a fence": (
        sys.modules[__name__], "is_chosen", lambda node, value: value.init == node.peer),
}  # fmt: skip


@pytest.mark.simulation
@pytest.mark.parametrize("mutant", sorted(WIPED_MUTANTS))
def test_the_schedules_with_lost_disks_catch(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, broken = WIPED_MUTANTS[mutant]
    monkeypatch.setattr(module, name, broken)
    assert any(play(seed, 3, 2, WIPE).is_violated for seed in range(3000))


def ask(leader: Voter, voters: Iterable[Voter]) -> None:
    """Carry what a leader asks to these voters, and their registers back to it."""
    for voter in voters:
        voter.prepares |= leader.prepares
        voter.proposals |= leader.proposals
        voter.vote(3)
        leader.registers[voter.peer] = voter.registers[voter.peer]


def hidden_promise() -> set[Decision]:
    """Lose the disk of a voter whose promise only its proposer has seen, and return all that is decided then.

    The proposer still holds that promise, signed. The wiped voter must not vote below it, though nobody tells it.
    """
    leader, friend, wiped, *others = [Voter(peer) for peer in PEERS[:5]]
    for _ in range(5):
        leader.open()
    ask(leader, [leader, wiped])
    wiped.wipe()
    for _ in range(3):  # it opens a barrier, a second one, and is back
        wiped.vote(3)
        if wiped.state.recovery:
            ask(wiped, [friend, *others])
    assert wiped.state.recovery is None
    others[0].open()
    for _ in ("prepare", "propose"):
        ask(others[0], [wiped, *others])
        others[0].propose(3)
    ask(others[0], [wiped, *others])
    first = paxos.decided(others[0].registers, 3)
    ask(leader, [friend])
    leader.propose(3)
    ask(leader, [leader, friend, others[0]])
    return {value for value in (first, paxos.decided(leader.registers, 3)) if value}


def test_a_lost_promise_that_only_its_proposer_has_seen_is_kept_all_the_same() -> None:
    assert len(hidden_promise()) == 1


def test_a_barrier_just_above_all_that_is_seen_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "RECOVERY_GAP", 1)
    assert len(hidden_promise()) == 2
