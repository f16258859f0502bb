"""How a voter comes back whose memory is lost, or was rolled back to an older disk, under the same identity.

It must not vote from ignorance: what it has forgotten may be the vote that decided. So it is silent until `enough`
OTHER voters have promised a ballot (the barrier) above all that its lost self can have promised or voted for:

    step 1   open a barrier; when enough others have promised it, their promises show every ballot that our lost self
             voted for: whoever asked for that vote had enough promises for it, so one of these others had promised too
    step 2   open a second barrier above all of those; when enough others have promised it, each of them shows its
             vote, or can no longer vote below the barrier. Take the highest promise and the highest vote among them

So for each vote that our lost self gave: were it part of a decision, one of these others shows that decision, and we
now hold it. And as our promise is above all old ones, none of them is broken.

For a barrier all ballots count, also those out of `quorum.REACH`: whoever has forgotten its own highest round cannot
tell them from honest ones. A member that claims the last rounds can so keep a voter silent, and not make it break a
promise.

One step would not do, nor would "above all that is seen": the lost self may have promised a ballot that only its
proposer has seen, and this proposer would still count that promise. RECOVERY_GAP puts the barrier above those too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kairos_core.cluster.quorum import LAST_ROUND, REACH, Ballot, Ballots, Recovery, Register
from kairos_core.model import PeerId

RECOVERY_GAP = 1 << 32
"""Rounds between all that is seen and a barrier. A ballot that our lost self promised and that nobody here has seen
is at most so far ahead: a leader opens at most one round each PATIENCE. Raising it wastes rounds, of which there are
2^64; lowering it lets a network that was cut off for long overtake the barrier unseen."""


def is_outranked(state: Ballots, published: Register | None) -> bool:
    """Say whether our own signed register, as the ledger has it, says more than our disk: then the disk is an old one.

    Everything is saved before it is published, so this happens for no other reason.
    """
    if published is None:
        return False
    return state.register is None or published.encode()[0] > state.register.encode()[0]


def recover(
    me: PeerId, state: Ballots, registers: Mapping[PeerId, Register], seen: Iterable[Ballot], enough: int
) -> Ballots:
    """Return the next state of a voter in recovery; its barrier is to be published as a prepare.

    `registers` are those in the ledger; `enough` is the read quorum.
    """
    recovery = state.recovery
    if recovery is None:
        return state
    if recovery.barrier is None:
        return _raise_barrier(me, state, registers, seen)
    barrier, last = recovery.barrier, recovery.barrier.round + REACH
    others = [register for peer, register in registers.items() if peer != me and register.promised.round <= last]
    shown = [register for register in others if register.promised >= barrier]
    if len(shown) < enough:
        return state
    if recovery.step == 1:
        return _raise_barrier(me, state, registers, seen)
    # What the ledger has of our own, and what an old disk still knew, we did sign.
    ours = [register for register in (registers.get(me), state.register) if register is not None]
    votes = [register for register in (*shown, *ours) if register.ballot is not None]
    latest = max(votes, key=lambda register: register.ballot or register.promised, default=None)
    promised = max(register.promised for register in (*shown, *ours))
    register = Register(promised, latest.ballot, latest.value) if latest else Register(promised)
    rounds = max(state.max_round, promised.round)
    return replace(state, register=register, max_round=rounds, recovery=None)


def _raise_barrier(me: PeerId, state: Ballots, registers: Mapping[PeerId, Register], seen: Iterable[Ballot]) -> Ballots:
    step = state.recovery.step + 1 if state.recovery else 1
    rounds = [ballot.round for ballot in seen] + [register.promised.round for register in registers.values()]
    barrier = Ballot(max([state.max_round, *rounds]) + RECOVERY_GAP, me)
    if barrier.round > LAST_ROUND:
        return state  # somebody has claimed the last rounds: silence is safe, and a new generation begins anew
    return replace(state, max_round=barrier.round, recovery=Recovery(barrier, step))
