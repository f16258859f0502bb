"""What happens to a network: each scenario builds a world from its seed, hurts it, lets it heal, and looks.

Sizes, quorums, latencies and the moments of faults are drawn from the seed too, within what the election promises:
at most 2q - 1 machines that may vote. `Watch` looks on all the while; `World.settle` asks for agreement at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from kairos_core.cluster.election import Rules
from kairos_core.model import Role
from kairos_core.testing.simulator.network import Conditions
from kairos_core.testing.simulator.node import SimulatedNode
from kairos_core.testing.simulator.world import World

AGREE = 60.0
"""Virtual seconds after the last fault by which all must agree: some rounds of the election and of probing the dead."""

YEAR = 365 * 86_400.0

Play = Callable[[World], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named course of events; the name is that of its function."""

    name: str
    play: Play
    sentence: str
    weight: int = 1  # how many seeds of an ordinary scenario one of these costs, in time


SCENARIOS: dict[str, Scenario] = {}


def _scenario(play: Play) -> Play:
    name, sentence = play.__name__, (play.__doc__ or "").splitlines()[0]
    SCENARIOS[name] = Scenario(name, play, sentence, 400 if play.__name__ == "big_network" else 1)
    return play


@_scenario
def boot_together(world: World) -> None:
    """All machines are switched on at once."""
    nodes = _boot(world, _rules(world, _count(world)))
    _write(world, nodes, 2)
    world.settle(AGREE)


@_scenario
def two_islands(world: World) -> None:
    """Two halves start without knowing of each other, and meet later."""
    count = _count(world)
    nodes = [world.add(_rules(world, count, knows_all=False)) for _ in range(count)]
    _split(world, nodes)
    world.meet_all(within=2.0)
    _write(world, nodes, 3)
    world.run(until=world.random.uniform(5.0, 45.0))
    _heal(world)


@_scenario
def rolling_start(world: World) -> None:
    """Machines come one after the other, over half a minute."""
    count = _count(world)
    rules = _rules(world, count, knows_all=world.random.random() < 0.5)
    for _ in range(count):
        newcomer = world.add(rules)
        world.meet(newcomer, world.nodes, within=1.5)
        world.run(until=world.now + world.random.uniform(0.0, 30.0 / count))
    _write(world, world.nodes, 2)
    world.settle(AGREE)


@_scenario
def leader_crash(world: World) -> None:
    """Whoever leads a round of the election crashes in the middle of it, and comes back later."""
    nodes = _boot(world, _rules(world, _count(world), needs_all=False))
    leader = _first_leader(world)
    world.run(until=world.now + world.random.uniform(0.0, 0.1))
    leader.crash()
    world.run(until=world.now + world.random.uniform(0.5, 20.0))
    leader.boot()
    world.meet(leader, nodes, within=1.0)
    world.settle(AGREE)


@_scenario
def restart_storm(world: World) -> None:
    """Machines crash again and again, also between saving a promise and telling of it, and start again."""
    nodes = (
        _boot_eagerly(world, within=0.5) if world.random.random() < 0.5 else _boot(world, _rules(world, _count(world)))
    )
    world.after_crash = lambda node: world.at(world.now + world.random.uniform(0.1, 3.0), lambda: _revive(world, node))
    for node in nodes:
        node.fragility = world.random.choice((0.0, 0.02, 0.1, 0.3))
    for _ in range(world.random.randint(2, 8)):
        world.run(until=world.now + world.random.choice((0.05, 1.0, 1.0, 6.0)) * world.random.random())
        victim = world.random.choice(nodes)
        victim.crash()
        world.after_crash(victim)
        if world.random.random() < 0.3:
            _split(world, nodes)
    world.run(until=world.now + 4.0)
    world.heal()
    for node in nodes:
        node.fragility = 0.0
        _revive(world, node)
    world.meet_all(within=2.0)
    _write(world, nodes, 2)
    world.settle(AGREE)


@_scenario
def partition_during_start(world: World) -> None:
    """The network falls apart in new ways while promises and votes are on their way, then heals."""
    nodes = _boot_eagerly(world, within=0.3)
    _first_leader(world)
    for _ in range(world.random.randint(2, 5)):
        # Within a round, or long enough that those left behind count as dead and another node leads.
        world.run(until=world.now + world.random.uniform(0.0, 0.08))
        _split(world, nodes)
        world.run(until=world.now + world.random.choice((0.3, 6.0, 9.0)))
        _write(world, nodes, 1)
        if world.random.random() < 0.3:
            world.heal()
    _heal(world)


@_scenario
def one_way_partition(world: World) -> None:
    """Links carry one way only: some are heard and hear nothing."""
    nodes = _boot(world, _rules(world, _count(world), needs_all=False))
    for _ in range(world.random.randint(1, 4)):
        world.run(until=world.now + world.random.uniform(0.02, 2.0))
        mute = world.random.sample(nodes, world.random.randint(1, len(nodes) - 1))
        world.block(mute, [node for node in nodes if node not in mute])
        _write(world, nodes, 1)
    world.run(until=world.now + world.random.uniform(1.0, 30.0))
    _heal(world)


@_scenario
def lossy(world: World) -> None:
    """A fifth to a half of the datagrams is lost, and others come late, twice or after their successors."""
    chance = world.random.uniform
    bad = Conditions((0.005, chance(0.02, 0.3)), 2.0, chance(0.2, 0.5), chance(0.0, 0.2), chance(0.0, 0.2), 2.0)
    world.network.conditions = bad
    nodes = _boot_eagerly(world, within=3.0) if chance(0.0, 1.0) < 0.5 else _boot(world, _rules(world, _count(world)))
    if world.random.random() < 0.5:
        world.network.slow_down(world.random.choice(nodes).address, chance(0.1, 0.6))
    _write(world, nodes, 3)
    world.run(until=world.now + chance(2.0, 20.0))
    world.network.conditions = replace(bad, loss=0.02)
    for node in nodes:
        world.network.slow_down(node.address, 0.0)
    _heal(world)


@_scenario
def skewed_clocks(world: World) -> None:
    """Clocks are wrong by up to a year, on less than half of the machines; one jumps while running."""
    count = _count(world)
    rules = _rules(world, count)
    wrong = set(world.random.sample(range(count), (count - 1) // 2))
    spans = (60.0, 3_600.0, 86_400.0, YEAR)
    for number in range(count):
        span = world.random.choice(spans) if number in wrong else 20.0
        world.add(rules, skew=world.random.uniform(-span, span))
    world.meet_all(within=2.0)
    world.run(until=world.random.uniform(0.2, 8.0))
    if wrong:
        jumping = world.nodes[min(wrong)]
        jumping.skew = world.random.uniform(-YEAR, YEAR)
        world.note(jumping, f"has its clock set {jumping.skew:+.0f} s off")
    _write(world, world.nodes, 2)
    # A node that trusts its own clock again only hears of others by the next session: housekeeping and probes.
    world.settle(2 * AGREE)


@_scenario
def wiped_disk(world: World) -> None:
    """Machines lose their disks while the network falls apart in new ways, with their identity or all but it."""
    quorum = world.random.choice((2, 2, 3, 3, 4))
    # A machine that comes back under a new identity is one more voter: only where 2q - 1 leave room for it.
    room = world.random.random() < 0.3 and quorum > 2
    count = 2 * quorum - 1 - room
    nodes = [world.add(Rules("kairos", quorum=quorum, nodes_to_start=quorum, expected=quorum)) for _ in range(count)]
    world.meet_all(within=0.3)
    # A quorum must remember: without one, those who lost their disks wait for ever, as they must.
    victims = world.random.sample(nodes, count - quorum)
    _first_leader(world)
    for _ in range(world.random.randint(1, 4)):
        world.run(until=world.now + world.random.uniform(0.0, 0.06))
        _split(world, nodes)
        world.run(until=world.now + world.random.choice((0.03, 0.3, 3.0)))
        victim = world.random.choice(victims)
        victim.wipe(keep_identity=not room)
        room = False
        if world.random.random() < 0.7:
            _split(world, nodes)
        world.run(until=world.now + world.random.uniform(0.05, 0.5))
        _revive(world, victim)
        world.run(until=world.now + world.random.choice((0.3, 6.0, 9.0)))
    _heal(world)


@_scenario
def late_joiners(world: World) -> None:
    """Nodes, a forced worker, one without a role and an operator join a cluster that runs."""
    count = world.random.choice((3, 5))
    rules = replace(_rules(world, count), quorum=count)  # so that all who come later keep within 2q - 1
    _boot(world, rules)
    world.run(until=world.random.uniform(1.0, 20.0))
    for wish, kind in ((None, "node"), (Role.WORKER, "node"), (Role.NONE, "node"), (None, "operator")):
        newcomer = world.add(rules, wish=wish, kind=kind)
        world.meet(newcomer, world.random.sample(world.nodes[:-1], 1), within=1.0)
        world.run(until=world.now + world.random.uniform(0.0, 2.0))
    _write(world, world.nodes, 2)
    world.settle(AGREE)


@_scenario
def ha_control_plane(world: World) -> None:
    """Several masters are wanted, and the network parts while they are chosen."""
    count = world.random.choice((3, 5, 7))
    rules = _rules(world, count, needs_all=world.random.random() < 0.5)
    nodes = _boot(world, replace(rules, ha_masters=world.random.randint(1, count - 1)))
    world.run(until=world.now + world.random.uniform(0.1, 3.0))
    _split(world, nodes)
    world.run(until=world.now + world.random.uniform(0.5, 15.0))
    _heal(world)


@_scenario
def big_network(world: World, count: int = 200) -> None:
    """Two hundred machines join through a few that they know, a handful of them may be masters."""
    world.network.conditions = Conditions((0.001, 0.03), loss=0.01)
    rules = Rules("kairos", quorum=4, nodes_to_start=7, expected=7, ha_masters=2)
    voters = [world.add(rules) for _ in range(7)]
    world.meet_all(within=1.0)
    world.run(until=10.0)
    for _ in range(count - len(voters)):
        newcomer = world.add(rules, wish=Role.NONE)
        world.meet(newcomer, world.random.sample(world.nodes[:-1], 2), within=1.0)
        world.run(until=world.now + 0.02)
    _write(world, world.nodes, 5)
    world.settle(2 * AGREE, pause=5.0)


# -- what scenarios are made of -----------------------------------------------------------------------------------


def _count(world: World) -> int:
    return world.random.choice((2, 3, 3, 4, 5, 5, 6, 7))


def _rules(world: World, count: int, *, knows_all: bool = True, needs_all: bool = True) -> Rules:
    """Draw what nodes are configured to be, with a quorum that promises safety for `count` voters."""
    quorum = count // 2 + 1
    start = count if needs_all and world.random.random() < 0.5 else world.random.randint(quorum, count)
    if not needs_all:
        start = quorum
    expected = count if knows_all and world.random.random() < 0.8 else None
    ha = world.random.choice((None, None, 1, 2))
    return Rules("kairos", quorum=quorum, nodes_to_start=start, expected=expected, ha_masters=ha)


def _boot(world: World, rules: Rules) -> list[SimulatedNode]:
    """Start all within a second or two, and let them find each other."""
    count = rules.expected or 2 * rules.quorum - 1
    nodes = [world.add(rules) for _ in range(count)]
    world.meet_all(within=world.random.uniform(0.2, 2.0))
    world.run(until=world.now + world.random.uniform(0.1, 1.5))
    return nodes


def _boot_eagerly(world: World, within: float) -> list[SimulatedNode]:
    """Start as many as the promise allows, where any quorum goes ahead as soon as it is together."""
    quorum = world.random.choice((2, 2, 3, 3, 4))
    rules = Rules("kairos", quorum=quorum, nodes_to_start=quorum, expected=quorum)
    nodes = [world.add(rules) for _ in range(2 * quorum - 1)]
    world.meet_all(within)
    return nodes


def _split(world: World, nodes: list[SimulatedNode]) -> None:
    """Part the nodes in two, or now and then in three."""
    shuffled = world.random.sample(nodes, len(nodes))
    cuts = sorted(world.random.sample(range(1, len(nodes)), min(len(nodes) - 1, world.random.choice((1, 1, 1, 2)))))
    bounds = [0, *cuts, len(nodes)]
    world.part(*[shuffled[a:b] for a, b in pairwise(bounds)])


def _heal(world: World) -> None:
    """Connect all again, let discovery find them, and ask for agreement."""
    world.heal()
    world.meet_all(within=2.0)
    world.settle(AGREE)


def _revive(world: World, node: SimulatedNode) -> None:
    if not node.is_up:
        node.boot()
        world.meet(node, world.nodes, within=1.0)
        for other in world.nodes:
            world.meet(other, [node], within=1.0)


def _first_leader(world: World) -> SimulatedNode:
    """Run until a node opens a round."""
    while not (leading := [node for node in world.up() if node.actions.local.candidacy.round]):
        if world.now > AGREE:
            return world.nodes[0]  # nobody leads: `settle` will say so
        world.run(until=world.now + 0.005)
    return leading[0]


def _write(world: World, nodes: list[SimulatedNode], count: int) -> None:
    """Let living nodes write values that must all be there in the end."""
    for node in world.random.choices([node for node in nodes if node.is_up], k=count):
        world.write(node, f"written-{len(world.written)}", world.random.randrange(1 << 30))
