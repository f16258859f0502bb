"""What a scenario is, and what scenarios are made of: drawing sizes, starting machines, parting and healing networks.

Sizes, quorums, latencies and the moments of faults are drawn from the seed, within what the election promises: at most
2q - 1 machines that may vote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from kairos_core.cluster.election import Rules
from kairos_core.testing.simulator.node import SimulatedNode
from kairos_core.testing.simulator.world import World

AGREE = 60.0
"""Virtual seconds after the last fault by which all must agree: some rounds of the election and of probing the dead."""

Play = Callable[[World], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named course of events; the name is that of its function."""

    name: str
    play: Play
    sentence: str
    weight: int = 1  # how many seeds of an ordinary scenario one of these costs, in time
    is_for_all: bool = True  # whether it is among those that run when none is named


SCENARIOS: dict[str, Scenario] = {}


def scenario(play: Play, weight: int = 1, *, is_for_all: bool = True) -> Play:
    """Enter a course of events among the scenarios, under the name of its function."""
    name, sentence = play.__name__, (play.__doc__ or "").splitlines()[0]
    SCENARIOS[name] = Scenario(name, play, sentence, weight, is_for_all)
    return play


def draw_count(world: World) -> int:
    """Draw how many machines there are."""
    return world.random.choice((2, 3, 3, 4, 5, 5, 6, 7))


def draw_rules(world: World, count: int, *, knows_all: bool = True, needs_all: bool = True) -> Rules:
    """Draw what nodes are configured to be, with a quorum that promises safety for `count` voters."""
    quorum = count // 2 + 1
    start = count if needs_all and world.random.random() < 0.5 else world.random.randint(quorum, count)
    if not needs_all:
        start = quorum
    expected = count if knows_all and world.random.random() < 0.8 else None
    ha = world.random.choice((None, None, 1, 2))
    return Rules("kairos", quorum=quorum, nodes_to_start=start, expected=expected, ha_masters=ha)


def boot(world: World, rules: Rules) -> list[SimulatedNode]:
    """Start all within a second or two, and let them find each other."""
    count = rules.expected or 2 * rules.quorum - 1
    nodes = [world.add(rules) for _ in range(count)]
    world.meet_all(within=world.random.uniform(0.2, 2.0))
    world.run(until=world.now + world.random.uniform(0.1, 1.5))
    return nodes


def boot_eagerly(world: World, within: float) -> list[SimulatedNode]:
    """Start as many as the promise allows, where any quorum goes ahead as soon as it is together."""
    quorum = world.random.choice((2, 2, 3, 3, 4))
    rules = Rules("kairos", quorum=quorum, nodes_to_start=quorum, expected=quorum)
    nodes = [world.add(rules) for _ in range(2 * quorum - 1)]
    world.meet_all(within)
    return nodes


def split(world: World, nodes: list[SimulatedNode]) -> None:
    """Part the nodes in two, or now and then in three."""
    shuffled = world.random.sample(nodes, len(nodes))
    cuts = sorted(world.random.sample(range(1, len(nodes)), min(len(nodes) - 1, world.random.choice((1, 1, 1, 2)))))
    bounds = [0, *cuts, len(nodes)]
    world.part(*[shuffled[a:b] for a, b in pairwise(bounds)])


def heal(world: World) -> None:
    """Connect all again, let discovery find them, and ask for agreement."""
    world.heal()
    world.meet_all(within=2.0)
    world.settle(AGREE)


def begin_anew_if_lost(world: World, nodes: list[SimulatedNode]) -> None:
    """Let the operator ask for a generation where nobody may initialise, and see it end with a cluster.

    `settle` has seen to it that this is so for one reason only: the disk that was decided to make the cluster is lost,
    and nobody can say whether it had begun.
    """
    if not world.watch.initialisations:
        world.random.choice(nodes).ask_for_generation()
        world.settle(AGREE)


def revive(world: World, node: SimulatedNode) -> None:
    """Start a machine again, unless it runs, and let discovery find it."""
    if not node.is_up:
        node.boot()
        world.meet(node, world.nodes, within=1.0)
        for other in world.nodes:
            world.meet(other, [node], within=1.0)


def first_leader(world: World) -> SimulatedNode:
    """Run until a node opens a round."""
    while not (leading := [node for node in world.up() if node.actions.local.candidacy.round]):
        if world.now > AGREE:
            return world.nodes[0]  # nobody leads: `settle` will say so
        world.run(until=world.now + 0.005)
    return leading[0]


def write(world: World, nodes: list[SimulatedNode], count: int) -> None:
    """Let living nodes write values that must all be there in the end."""
    for node in world.random.choices([node for node in nodes if node.is_up], k=count):
        world.write(node, f"written-{len(world.written)}", world.random.randrange(1 << 30))
