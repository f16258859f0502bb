"""Register-Paxos under the worst of schedules: every order, repetition and loss that a ledger allows."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.cluster import quorum as paxos
from kairos_core.cluster.quorum import Ballot, Ballots, Decision, Register, Round
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

    def gossip_from(self, other: "Voter", random: Random) -> None:
        for name in ("prepares", "registers", "proposals"):
            mine, theirs = getattr(self, name), getattr(other, name)
            for peer, message in theirs.items():
                if random.random() < 0.5 and rank(message) > rank(mine.get(peer)):
                    mine[peer] = message

    def vote(self) -> None:
        self.state = paxos.vote(self.state, self.prepares.values(), self.proposals.values())
        if self.state.register:
            self.registers[self.peer] = self.state.register

    def open(self) -> None:
        ballot = paxos.next_ballot(self.peer, self.state, self.prepares.values())
        self.state = replace(self.state, max_round=ballot.round)
        self.round = Round(ballot, 0.0, 1.0)
        self.prepares[self.peer] = ballot

    def propose(self, read: int) -> None:
        if self.round and not self.round.proposed:
            wanted = Decision(f"cluster-of-{self.peer.short}-{self.round.ballot.round}", self.peer, "i")
            value = paxos.propose(self.round, self.registers, read, wanted)
            if value:
                self.round = replace(self.round, proposed=True)
                self.proposals[self.peer] = (self.round.ballot, value)

    def crash(self) -> None:
        """Keep what is durable; forget what reached us, and our round."""
        self.prepares, self.registers, self.proposals, self.round = {}, {}, {}, None


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


def decisions(seed: int, voters: int, quorum: int) -> set[Decision]:
    """Run a random schedule and return all that anybody ever learnt."""
    random = Random(seed)
    nodes = [Voter(peer) for peer in PEERS[:voters]]
    read, learnt = paxos.read_quorum(quorum, voters), set()
    for _ in range(120 * voters):
        node = random.choice(nodes)
        other = random.choice(nodes)
        acts = [partial(node.gossip_from, other, random), node.vote, node.open, partial(node.propose, read), node.crash]
        random.choices(acts, weights=[16, 8, 0.25 if node.round else 1, 6, 0.1])[0]()
        value = paxos.decided(node.registers, quorum)
        if value:
            learnt.add(value)
    return learnt


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
