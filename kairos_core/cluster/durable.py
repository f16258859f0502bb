"""What a node must not forget: its part in the election, and which cluster is on its disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from kairos_core.cluster.quorum import Ballots, Decision, Recovery


class Leaving(StrEnum):
    """Whether a machine leaves, and whether it waits for a master to take it out of the cluster first."""

    NO = ""
    ORDERLY = "orderly"
    AT_ONCE = "at once"


@dataclass(frozen=True, slots=True)
class Durable:
    """What survives this process and a power cut."""

    incarnation: str
    ballots: Ballots = field(default_factory=Ballots)
    intent: str | None = None  # the cluster that this disk has begun to initialise
    node_name: str | None = None
    generation: int = 1  # ballots and intent belong to it; 0 while a node that lost its memory has met nobody
    runs: str | None = None  # the cluster whose Kubernetes was last started here
    serves: bool = False  # as a master: its data is on this disk
    past: tuple[str, ...] = ()  # the clusters of earlier generations
    leaving: Leaving = Leaving.NO  # the operator wants this machine out of the network for good

    @property
    def served(self) -> str:
        """The cluster whose control plane is on this disk, "" when there is none."""
        return (self.runs or "") if self.serves else ""


def in_generation(durable: Durable, generation: int) -> Durable:
    """Return the state with which a node takes part in a generation; what it did in earlier ones is over for good.

    It neither votes nor initialises there again. What runs on the disk stays until another cluster is joined.
    """
    if generation <= durable.generation:
        return durable
    if durable.generation == 0:  # our lost self may have voted in this very generation
        return replace(durable, generation=generation)
    decision = durable.ballots.decided
    past = (*durable.past, decision.cluster_id)[-16:] if decision else durable.past
    return replace(durable, ballots=Ballots(), intent=None, generation=generation, past=past)


def forgotten(durable: Durable, published_incarnation: str) -> Durable:
    """Return the state of a node whose own entry of old, found in the ledger, names another incarnation.

    If the election file is a fresh one, what the earlier disk promised is lost; anything else is no news.
    """
    is_fresh = durable.ballots == Ballots() and durable.generation == 1
    if not is_fresh or published_incarnation in ("", durable.incarnation):
        return durable
    return replace(durable, ballots=Ballots(recovery=Recovery()), generation=0)


def _new_incarnation(draw: Callable[[], float]) -> str:
    return f"{int(draw() * (1 << 52)):013x}{int(draw() * (1 << 52)):013x}"


def fenced_off(before: Durable, after: Durable, draw: Callable[[], float]) -> Durable:
    """Return the state with a new incarnation if the memory was found to be lost: it never initialises as the old one.

    A disk that still knows its intent is no such case: it goes on with the cluster that it holds.
    """
    is_news = after.ballots.recovery is not None and before.ballots.recovery is None
    if not is_news or after.intent is not None:
        return after
    return replace(after, incarnation=_new_incarnation(draw))


def adopted(durable: Durable, decision: Decision) -> Durable:
    """Return the state of a node that gives up the cluster it has and joins this one, whatever is on its disk."""
    ballots = replace(durable.ballots, decided=decision)
    intent = durable.intent if durable.intent == decision.cluster_id else None
    mine = durable.runs == decision.cluster_id and intent is not None
    return replace(durable, ballots=ballots, intent=intent, serves=durable.serves and mine)


def without_kubernetes(durable: Durable, draw: Callable[[], float]) -> Durable:
    """Return the state of a node on which Kubernetes, and its data, are no more.

    It has a new incarnation, as after the loss of its disk: the first master of a cluster never initialises it again.
    """
    return replace(durable, incarnation=_new_incarnation(draw), intent=None, runs=None, serves=False)
