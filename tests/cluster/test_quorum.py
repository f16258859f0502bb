"""Register-Paxos under the worst of schedules: every order, repetition and loss that a ledger allows."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
            return self.recover(enough)
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


def play(seed: int, voters: int, quorum: int, wipe_weight: float = 0.0) -> Outcome:
    """Run a random schedule of all that may happen."""
    random = Random(seed)
    nodes = [Voter(peer) for peer in PEERS[:voters]]
    read, outcome = paxos.read_quorum(quorum, voters), Outcome()
    for _ in range(120 * voters):
        node = random.choice(nodes)
        other = random.choice(nodes)
        acts = [
            partial(node.gossip_from, other, random),
            partial(node.vote, read),
            node.open,
            partial(node.propose, read),
            node.crash,
            node.wipe,
        ]
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


def decisions(seed: int, voters: int, quorum: int) -> set[Decision]:
    return play(seed, voters, quorum).learnt


@pytest.mark.parametrize(("voters", "quorum"), [(1, 1), (2, 2), (3, 2), (5, 3), (7, 4), (4, 2), (5, 2)])
def test_at_most_one_value_is_ever_decided(voters: int, quorum: int) -> None:
    reached = 0
    for seed in range(400):
        learnt = decisions(seed, voters, quorum)
        assert len(learnt) <= 1, f"two decisions with seed {seed}"
        reached += len(learnt)
    assert reached > 40, "the schedules should often reach a decision"


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


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_the_schedules_above_catch(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, broken = MUTANTS[mutant]
    monkeypatch.setattr(paxos, name, broken)
    assert any(len(decisions(seed, 5, 3)) > 1 for seed in range(400))


WIPE = 0.06
"""How often a schedule loses a disk, beside 16 for gossip: often before and after the decision."""


@pytest.mark.parametrize("voters", [3, 5, 7])
def test_lost_disks_never_lead_to_a_second_decision_or_a_second_initialiser(voters: int) -> None:
    learnt = wipes = recovered = 0
    for seed in range(500):
        outcome = play(seed, voters, voters // 2 + 1, WIPE)
        assert not outcome.is_violated, f"violated with seed {seed}"
        learnt, wipes, recovered = learnt + len(outcome.learnt), wipes + outcome.wipes, recovered + outcome.recovered
    assert learnt > 100, "the schedules should often reach a decision"
    assert wipes > 300, "disks should be lost"
    assert recovered > wipes / 4, "and voters come back"


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


@pytest.mark.parametrize("mutant", sorted(WIPED_MUTANTS))
def test_the_schedules_with_lost_disks_catch(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, broken = WIPED_MUTANTS[mutant]
    monkeypatch.setattr(module, name, broken)
    caught = {
        voters: sum(play(seed, voters, voters // 2 + 1, WIPE).is_violated for seed in range(500)) for voters in (3, 5)
    }
    print(mutant, caught)
    assert any(caught.values())


@given(st.binary(max_size=90), st.one_of(st.none(), st.dictionaries(st.text(max_size=12), st.integers())))
def test_a_register_of_random_content_is_refused_cleanly(rank: bytes, value: dict[str, int] | None) -> None:
    try:
        Register.decode(rank, value)
    except (ValueError, KeyError, TypeError):
        return
    assert len(rank) >= 40


def test_messages_survive_their_encoding() -> None:
    ballot = Ballot(7, PEERS[0])
    value = Decision("kairos-1", PEERS[1], "abc", (PEERS[2],), 2)
    assert Ballot.decode(ballot.encode()) == ballot
    assert Decision.decode(value.encode()) == value
    for register in (Register(ballot), Register(ballot, ballot, value)):
        assert Register.decode(*register.encode()) == register


def test_ballots_sort_as_their_bytes_do() -> None:
    ballots = [Ballot(n, peer) for n in (0, 1, 255, 256) for peer in PEERS]
    assert sorted(ballots) == sorted(ballots, key=Ballot.encode)
