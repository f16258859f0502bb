"""Who initialises the cluster: decided once per generation by register-Paxos over the ledger.

Every message is an entry that one node writes and that only grows, so gossip may lose, repeat and reorder them:

    prepares/<network id>/<generation>/<peer>     the highest ballot that a proposer has opened
    registers/<network id>/<generation>/<peer>    what a voter has promised and voted for; a vote is this signed entry
    proposals/<network id>/<generation>/<peer>    the value that a proposer asks votes for

`q` votes for one ballot decide. A proposer reads the registers of at least `q` voters, and of so many that any `q`
of the voters it knows would be seen: |R| + q > N (Howard et al. 2016, "Flexible Paxos"). With at most 2q - 1
voters two decisions are impossible; beyond that, as long as the proposer knows of all who may vote.
Source of the protocol: Lamport 2001, "Paxos Made Simple". No step reads a clock. How a voter that has lost its
memory comes back is in `recovery`.

A ballot that lies more than REACH rounds above all that a node has opened or promised itself is to this node as one
that has not come: it neither promises nor votes for it, nor opens one above it, nor counts a register that has
promised it. Else one member that opens the last round there is would end all elections. The proof needs no message to
arrive: a promise that is not given and a register that is not counted leave fewer votes and fewer promises, and a
proposer still waits for its whole quorum of registers that it does count. Only how many may vote is counted with all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kairos_core.model import PeerId

_BALLOT = 40

LAST_ROUND = (1 << 64) - 1

REACH = 1 << 40
"""Rounds above our own highest at which we still hear of a ballot. Honest ones rise by one a second, and by 2^33 when
a voter that lost its memory comes back. Raising it lets a hostile member use up the 2^64 rounds in fewer entries (now
2^24 one after the other, ten days at the pace of an author); lowering it leaves a newcomer out of an election in which
fewer machines have lost their memory (now over 100)."""


@dataclass(frozen=True, slots=True, order=True)
class Ballot:
    """A round number and the proposer that opened it; ordered, and never equal for two proposers."""

    round: int
    peer: PeerId

    def encode(self) -> bytes:
        """Return 40 bytes that sort as ballots do."""
        return self.round.to_bytes(8) + self.peer.public_key

    @classmethod
    def decode(cls, raw: bytes) -> Ballot:
        """Raises ValueError."""
        if len(raw) != _BALLOT:
            raise ValueError(f"a ballot has {_BALLOT} bytes, not {len(raw)}")
        return cls(int.from_bytes(raw[:8]), PeerId(raw[8:]))


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided: the cluster's id, the one (node, incarnation) that initialises it, and the HA masters."""

    cluster_id: str
    init: PeerId
    incarnation: str
    ha: tuple[PeerId, ...] = ()
    masters: int | None = None  # HA masters wanted beside the initialiser; None: no HA at all
    generation: int = 1
    seen: int = 0  # nodes that were here when it was first proposed
    round: int = 0  # the round in which it was first proposed

    def encode(self) -> dict[str, Any]:
        return {
            "cluster_id": self.cluster_id,
            "init": self.init.public_key,
            "incarnation": self.incarnation,
            "ha": [peer.public_key for peer in self.ha],
            "masters": self.masters,
            "generation": self.generation,
            "seen": self.seen,
            "round": self.round,
        }

    @classmethod
    def decode(cls, content: Mapping[str, Any]) -> Decision:
        """Raises ValueError, KeyError or TypeError."""
        cluster_id, incarnation = content["cluster_id"], content["incarnation"]
        if not (isinstance(cluster_id, str) and 0 < len(cluster_id) <= 64 and isinstance(incarnation, str)):
            raise ValueError("a decision needs a cluster id and an incarnation")
        ha = tuple(PeerId(raw) for raw in content["ha"][:64])
        masters, counts = content["masters"], [content[name] for name in ("generation", "seen", "round")]
        if not (masters is None or type(masters) is int) or not all(type(count) is int for count in counts):
            raise ValueError("a decision counts masters, generations, nodes and rounds in whole numbers")
        return cls(cluster_id, PeerId(content["init"]), incarnation, ha, masters, *counts)


@dataclass(frozen=True, slots=True)
class Register:
    """What a voter has promised (no ballot below it gets its vote) and its last vote."""

    promised: Ballot
    ballot: Ballot | None = None
    value: Decision | None = None

    def encode(self) -> list[Any]:
        """Return `[rank, value]` for a bucket of policy mono: the rank grows with each promise and vote."""
        voted = self.ballot.encode() if self.ballot else bytes(_BALLOT)
        return [self.promised.encode() + voted, self.value.encode() if self.value else None]

    @classmethod
    def decode(cls, rank: bytes, value: Mapping[str, Any] | None) -> Register:
        """Raises ValueError, KeyError or TypeError."""
        promised = Ballot.decode(rank[:_BALLOT])
        if not any(rank[_BALLOT:]):
            return cls(promised)
        if value is None:
            raise ValueError("a vote without a value")
        return cls(promised, Ballot.decode(rank[_BALLOT:]), Decision.decode(value))


@dataclass(frozen=True, slots=True)
class Recovery:
    """That this voter has lost its memory, and how far it is in getting over it; see `recovery`."""

    barrier: Ballot | None = None
    step: int = 0


@dataclass(frozen=True, slots=True)
class Ballots:
    """The durable state of one voter and proposer. It is saved (fsync) before anything it implies is published."""

    register: Register | None = None
    max_round: int = 0
    decided: Decision | None = None
    recovery: Recovery | None = None  # not None: neither promise nor vote


@dataclass(frozen=True, slots=True)
class Round:
    """The ballot that this node leads, for as long as the process lives."""

    ballot: Ballot
    started: float  # monotonic seconds
    patience: float  # seconds after which another round is opened
    proposed: bool = False


def vote(state: Ballots, prepares: Iterable[Ballot], proposals: Iterable[tuple[Ballot, Decision]]) -> Ballots:
    """Return a voter's state after what it sees: promise the highest ballot, vote for the highest proposal."""
    if state.recovery is not None:
        return state
    register, last = state.register, state.max_round + REACH
    for ballot in prepares:
        if ballot.round <= last and (register is None or ballot > register.promised):
            register = replace(register, promised=ballot) if register else Register(ballot)
    for ballot, value in sorted(proposals, key=lambda proposal: proposal[0]):
        if ballot.round > last:
            break
        if register is None or (ballot >= register.promised and ballot != register.ballot):
            register = Register(ballot, ballot, value)
    if register is state.register:
        return state
    assert register is not None
    return replace(state, register=register, max_round=max(state.max_round, register.promised.round))


def next_ballot(me: PeerId, state: Ballots, seen: Iterable[Ballot]) -> Ballot:
    """Return a ballot above all within reach that this node has seen or opened. Its round may be beyond LAST_ROUND."""
    last = state.max_round + REACH
    return Ballot(max([state.max_round, *(ballot.round for ballot in seen if ballot.round <= last)]) + 1, me)


def propose(round: Round, registers: Mapping[PeerId, Register], quorum: int, wanted: Decision) -> Decision | None:
    """Return the value to ask votes for under our ballot, None while too few have promised.

    `quorum` is how many registers must be read; `wanted` is our own value, used only where none can have been
    decided before.
    """
    last = round.ballot.round + REACH
    promised = [register for register in registers.values() if round.ballot <= register.promised]
    heard = [register for register in promised if register.promised.round <= last]
    if len(heard) < quorum or any(register.promised > round.ballot for register in heard):
        return None  # too few, or a voter has promised another ballot and will not vote for ours
    votes = [r for r in heard if r.ballot is not None and r.value is not None]
    latest = max(votes, key=lambda r: r.ballot or round.ballot, default=None)
    return latest.value if latest else wanted


def decided(registers: Mapping[PeerId, Register], quorum: int) -> Decision | None:
    """Return the decision that the votes prove: `quorum` signed votes for one value under one ballot.

    An honest ballot has one value; who votes for another under it (a lie) is not counted with the others.
    """
    votes = Counter((each.ballot, each.value) for each in registers.values() if each.ballot and each.value)
    return next((value for (_, value), count in votes.items() if count >= quorum), None)


def read_quorum(quorum: int, voters: int) -> int:
    """Return how many registers a proposer reads so that it sees one of any `quorum` among `voters`."""
    return max(quorum, voters - quorum + 1)
