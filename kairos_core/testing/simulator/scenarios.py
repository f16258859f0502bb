"""What happens to a network of honest machines: each scenario builds a world from its seed, hurts it, lets it heal, and
looks. `Watch` looks on all the while; `World.settle` asks for agreement at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kairos_core.cluster.election import Rules
from kairos_core.model import Role
from kairos_core.testing.simulator import departing, hostile, operated
from kairos_core.testing.simulator.invariants import unsettled
from kairos_core.testing.simulator.network import Conditions
from kairos_core.testing.simulator.scenario import (
    AGREE,
    SCENARIOS,
    Scenario,
    begin_anew_if_lost,
    boot,
    boot_eagerly,
    draw_count,
    draw_rules,
    first_leader,
    heal,
    revive,
    scenario,
    split,
    write,
)
from kairos_core.testing.simulator.world import World

__all__ = ["SCENARIOS", "Scenario", "big_network", "departing", "hostile", "operated"]

YEAR = 365 * 86_400.0


@scenario
def boot_together(world: World) -> None:
    """All machines are switched on at once."""
    nodes = boot(world, draw_rules(world, draw_count(world)))
    write(world, nodes, 2)
    world.settle(AGREE)


@scenario
def two_islands(world: World) -> None:
    """Two halves start without knowing of each other, and meet later."""
    count = draw_count(world)
    nodes = [world.add(draw_rules(world, count, knows_all=False)) for _ in range(count)]
    split(world, nodes)
    world.meet_all(within=2.0)
    write(world, nodes, 3)
    world.run(until=world.random.uniform(5.0, 45.0))
    heal(world)


@scenario
def rolling_start(world: World) -> None:
    """Machines come one after the other, over half a minute."""
    count = draw_count(world)
    rules = draw_rules(world, count, knows_all=world.random.random() < 0.5)
    for _ in range(count):
        newcomer = world.add(rules)
        world.meet(newcomer, world.nodes, within=1.5)
        world.run(until=world.now + world.random.uniform(0.0, 30.0 / count))
    write(world, world.nodes, 2)
    world.settle(AGREE)


@scenario
def leader_crash(world: World) -> None:
    """Whoever leads a round of the election crashes in the middle of it, and comes back later."""
    nodes = boot(world, draw_rules(world, draw_count(world), needs_all=False))
    leader = first_leader(world)
    world.run(until=world.now + world.random.uniform(0.0, 0.1))
    leader.crash()
    world.run(until=world.now + world.random.uniform(0.5, 20.0))
    leader.boot()
    world.meet(leader, nodes, within=1.0)
    world.settle(AGREE)


@scenario
def restart_storm(world: World) -> None:
    """Machines crash again and again, also between saving a promise and telling of it, and start again."""
    nodes = (
        boot_eagerly(world, within=0.5)
        if world.random.random() < 0.5
        else boot(world, draw_rules(world, draw_count(world)))
    )
    world.after_crash = lambda node: world.at(world.now + world.random.uniform(0.1, 3.0), lambda: revive(world, node))
    for node in nodes:
        node.fragility = world.random.choice((0.0, 0.02, 0.1, 0.3))
    for _ in range(world.random.randint(2, 8)):
        world.run(until=world.now + world.random.choice((0.05, 1.0, 1.0, 6.0)) * world.random.random())
        victim = world.random.choice(nodes)
        victim.crash()
        world.after_crash(victim)
        if world.random.random() < 0.3:
            split(world, nodes)
    world.run(until=world.now + 4.0)
    world.heal()
    for node in nodes:
        node.fragility = 0.0
        revive(world, node)
    world.meet_all(within=2.0)
    write(world, nodes, 2)
    world.settle(AGREE)


@scenario
def partition_during_start(world: World) -> None:
    """The network falls apart in new ways while promises and votes are on their way, then heals."""
    nodes = boot_eagerly(world, within=0.3)
    first_leader(world)
    for _ in range(world.random.randint(2, 5)):
        # Within a round, or long enough that those left behind count as dead and another node leads.
        world.run(until=world.now + world.random.uniform(0.0, 0.08))
        split(world, nodes)
        world.run(until=world.now + world.random.choice((0.3, 6.0, 9.0)))
        write(world, nodes, 1)
        if world.random.random() < 0.3:
            world.heal()
    heal(world)


@scenario
def one_way_partition(world: World) -> None:
    """Links carry one way only: some are heard and hear nothing."""
    nodes = boot(world, draw_rules(world, draw_count(world), needs_all=False))
    for _ in range(world.random.randint(1, 4)):
        world.run(until=world.now + world.random.uniform(0.02, 2.0))
        mute = world.random.sample(nodes, world.random.randint(1, len(nodes) - 1))
        world.block(mute, [node for node in nodes if node not in mute])
        write(world, nodes, 1)
    world.run(until=world.now + world.random.uniform(1.0, 30.0))
    heal(world)


@scenario
def lossy(world: World) -> None:
    """A fifth to a half of the datagrams is lost, and others come late, twice or after their successors."""
    chance = world.random.uniform
    bad = Conditions((0.005, chance(0.02, 0.3)), 2.0, chance(0.2, 0.5), chance(0.0, 0.2), chance(0.0, 0.2), 2.0)
    world.network.conditions = bad
    nodes = (
        boot_eagerly(world, within=3.0) if chance(0.0, 1.0) < 0.5 else boot(world, draw_rules(world, draw_count(world)))
    )
    if world.random.random() < 0.5:
        world.network.slow_down(world.random.choice(nodes).address, chance(0.1, 0.6))
    write(world, nodes, 3)
    world.run(until=world.now + chance(2.0, 20.0))
    world.network.conditions = replace(bad, loss=0.02)
    for node in nodes:
        world.network.slow_down(node.address, 0.0)
    heal(world)


@scenario
def skewed_clocks(world: World) -> None:
    """Clocks are wrong by up to a year, on less than half of the machines; one jumps while running."""
    count = draw_count(world)
    rules = draw_rules(world, count)
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
    write(world, world.nodes, 2)
    # A node that trusts its own clock again only hears of others by the next session: housekeeping and probes.
    world.settle(2 * AGREE)


@scenario
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
    first_leader(world)
    for _ in range(world.random.randint(1, 4)):
        world.run(until=world.now + world.random.uniform(0.0, 0.06))
        split(world, nodes)
        world.run(until=world.now + world.random.choice((0.03, 0.3, 3.0)))
        victim = world.random.choice(victims)
        victim.wipe(keep_identity=not room)
        room = False
        if world.random.random() < 0.7:
            split(world, nodes)
        world.run(until=world.now + world.random.uniform(0.05, 0.5))
        revive(world, victim)
        world.run(until=world.now + world.random.choice((0.3, 6.0, 9.0)))
    heal(world)
    begin_anew_if_lost(world, nodes)


@scenario
def late_joiners(world: World) -> None:
    """Nodes, a forced worker, one without a role and an operator join a cluster that runs."""
    count = world.random.choice((3, 5))
    rules = replace(draw_rules(world, count), quorum=count)  # so that all who come later keep within 2q - 1
    boot(world, rules)
    world.run(until=world.random.uniform(1.0, 20.0))
    for wish, kind in ((None, "node"), (Role.WORKER, "node"), (Role.NONE, "node"), (None, "operator")):
        newcomer = world.add(rules, wish=wish, kind=kind)
        world.meet(newcomer, world.random.sample(world.nodes[:-1], 1), within=1.0)
        world.run(until=world.now + world.random.uniform(0.0, 2.0))
    write(world, world.nodes, 2)
    world.settle(AGREE)


@scenario
def ha_control_plane(world: World) -> None:
    """Several masters are wanted, and the network parts while they are chosen."""
    count = world.random.choice((3, 5, 7))
    rules = draw_rules(world, count, needs_all=world.random.random() < 0.5)
    nodes = boot(world, replace(rules, ha_masters=world.random.randint(1, count - 1)))
    world.run(until=world.now + world.random.uniform(0.1, 3.0))
    split(world, nodes)
    world.run(until=world.now + world.random.uniform(0.5, 15.0))
    heal(world)


def big_network(world: World, count: int = 200) -> None:
    """Two hundred machines join through a few that they know, and some are lost; a handful may be masters."""
    world.network.conditions = Conditions((0.001, 0.03), loss=0.01)
    rules = Rules("kairos", quorum=4, nodes_to_start=7, expected=7, ha_masters=2)
    voters = [world.add(rules) for _ in range(7)]
    world.meet_all(within=1.0)
    world.run(until=10.0)
    for _ in range(count - len(voters)):
        newcomer = world.add(rules, wish=Role.NONE)
        world.meet(newcomer, world.random.sample(world.nodes[:-1], 2), within=1.0)
        world.run(until=world.now + 0.02)
    write(world, world.nodes, 5)
    world.settle(2 * AGREE, pause=2.0)
    for node in world.random.sample(world.nodes[len(voters) :], count // 20):
        node.crash()
    write(world, world.nodes, 3)
    world.settle(2 * AGREE, pause=2.0, complaints=unmourned)


def unmourned(world: World) -> Iterator[str]:
    """Yield what keeps a world that has lost machines from being at rest: who is gone must be known to be gone."""
    gone = {node.peer for node in world.nodes if not node.is_up}
    for node in world.up():
        if unnoticed := gone & node.gossip.membership.alive_peers:
            yield f"{node.name} does not know that {len(unnoticed)} of {len(gone)} are gone"
    yield from unsettled(world)


def thousand_machines(world: World) -> None:
    """The same with a thousand machines. Takes twenty minutes; runs only when it is named."""
    big_network(world, 1000)


scenario(big_network, weight=400)
scenario(thousand_machines, weight=15_000, is_for_all=False)
