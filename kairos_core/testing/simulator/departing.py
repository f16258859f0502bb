"""Machines that leave for good, and masters that are lost for good, while the network is at its worst."""

from __future__ import annotations

from kairos_core.cluster.election import Rules
from kairos_core.cluster.quorum import Decision
from kairos_core.cluster.roles import assigner, masters
from kairos_core.testing.simulator.invariants import Violation
from kairos_core.testing.simulator.node import SimulatedNode
from kairos_core.testing.simulator.scenario import AGREE, heal, revive, scenario, split, write
from kairos_core.testing.simulator.world import World


def boot_with_ha(world: World) -> list[SimulatedNode]:
    """Start five to seven machines with three masters, and let them settle."""
    count = world.random.choice((5, 6, 7))
    rules = Rules("kairos", quorum=count // 2 + 1, nodes_to_start=count, expected=count, ha_masters=2)
    nodes = [world.add(rules) for _ in range(count)]
    world.meet_all(within=1.0)
    world.settle(AGREE)
    return nodes


@scenario
def departures(world: World) -> None:
    """Machines leave one after the other, masters too, while others crash and the network falls apart."""
    nodes = boot_with_ha(world)
    write(world, nodes, 2)
    for _ in range(world.random.randint(1, 3)):
        here = [node for node in world.up() if not node.has_left]
        assigning = [node for node in here if node.peer == assigner(node.view(), _decision(node), ())]
        node = world.random.choice(assigning if assigning and world.random.random() < 0.4 else here)
        if node.durable.served and len(_ready_masters(world)) < 3:
            continue  # with two of three gone the last could not take anybody out while it is away itself
        node.leave()
        for _ in range(world.random.randint(0, 3)):
            world.run(until=world.now + world.random.choice((0.1, 1.0, 6.0)) * world.random.random())
            here = world.up()
            if world.random.random() < 0.5 and len(here) > 2:
                split(world, here)
            if here and world.random.random() < 0.3:
                victim = world.random.choice(here)
                victim.crash()
                world.run(until=world.now + world.random.uniform(0.1, 8.0))
        world.heal()
        for other in nodes:
            if not other.has_left:
                revive(world, other)
        world.run(until=world.now + 20.0)
        heal(world)
    if world.random.random() < 0.5:
        for node in nodes:
            revive(world, node)  # as new ones
        heal(world)


@scenario
def lost_masters(world: World) -> None:
    """The first master is lost for good, or another, or both; others take their places after a while."""
    nodes = boot_with_ha(world)
    decision = _decision(nodes[0])
    lost = [node for node in nodes if node.peer == decision.init]
    if world.random.random() < 0.4:
        lost.append(world.random.choice([node for node in _ready_masters(world) if node not in lost]))
    for node in lost:
        node.crash()
        world.run(until=world.now + world.random.uniform(0.0, 10.0))
    world.run(until=world.now + nodes[0].spec.patience + 20.0)
    world.settle(AGREE)
    serving = len(_ready_masters(world))
    if serving != 3:
        raise Violation(f"{len(lost)} masters are lost for good, and {serving} serve instead of three")
    if world.random.random() < 0.5:
        for node in lost:
            revive(world, node)
        world.heal()
        world.meet_all(within=2.0)
        world.run(until=world.now + 20.0)
        known = masters(nodes[-1].view(), decision)
        if decision.init not in known or not any(node.peer == decision.init and node.is_up for node in nodes):
            raise Violation("the first master came back and is none any more")


def _decision(node: SimulatedNode) -> Decision:
    decision = node.actions.decision
    assert decision is not None
    return decision


def _ready_masters(world: World) -> list[SimulatedNode]:
    """Return who serves the cluster at this moment."""
    return [node for node in world.up() if node.durable.served and node.actions.phase == "ready"]
