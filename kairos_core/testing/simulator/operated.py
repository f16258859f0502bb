"""What operators do and have to undo: new generations, and two clusters of one network that meet."""

from __future__ import annotations

from collections.abc import Iterator

from kairos_core.cluster.election import Rules
from kairos_core.cluster.quorum import Decision
from kairos_core.testing.simulator.invariants import Violation, held
from kairos_core.testing.simulator.node import SimulatedNode
from kairos_core.testing.simulator.scenario import AGREE, boot_eagerly, heal, revive, scenario, split, write
from kairos_core.testing.simulator.world import World


def new_generations(world: World) -> None:
    """Masters are given up for a new generation and come back, while the network falls apart; then all adopt."""
    nodes = boot_eagerly(world, within=0.5)
    world.settle(AGREE)
    for number in range(2, 2 + world.random.randint(1, 3)):
        _lose_masters(world, nodes)
        asking = world.random.choice(world.up())
        asking.ask_for_generation()
        for _ in range(world.random.randint(0, 3)):
            world.run(until=world.now + world.random.choice((0.05, 0.4, 6.0)) * world.random.random())
            split(world, nodes)
            if world.random.random() < 0.4:
                revive(world, world.random.choice(nodes))
            if world.random.random() < 0.2:  # on both sides of the cut
                world.random.choice(world.up()).ask_for_generation()
        world.run(until=world.now + world.random.uniform(0.2, 12.0))
        for node in nodes:
            revive(world, node)
        heal(world)
        behind = [node.name for node in nodes if node.durable.generation < number]
        if behind:
            raise Violation(f"generation {number} was asked for, and {', '.join(behind)} never moved on")
    _adopt_all(world)


scenario(new_generations, weight=3)


def _lose_masters(world: World, nodes: list[SimulatedNode]) -> None:
    """Let the masters crash, or be cut off alive from the others."""
    masters = [node for node in nodes if node.durable.served] or [world.random.choice(nodes)]
    if world.random.random() < 0.5:
        world.part(masters, [node for node in nodes if node not in masters])
        return
    for node in masters[: len(nodes) - 1]:
        node.crash()


def _adopt_all(world: World) -> None:
    """Let the operator give up, machine by machine, what is held for him; then nothing may wait any more."""
    for _ in range(len(world.nodes)):
        waiting = [node for node in world.up() if held(node) and node.actions.decision is not None]
        if not waiting:
            break
        # The new initialiser first: the others wait for its cluster.
        node = min(waiting, key=lambda node: node.actions.decision is None or node.peer != node.actions.decision.init)
        assert node.actions.decision is not None
        node.adopt(node.actions.decision)
        world.settle(AGREE)
    if stranded := [node.name for node in world.up() if node.actions.phase != "ready"]:
        raise Violation(f"all that was held is given up, and {', '.join(stranded)} still wait")


@scenario
def two_clusters_meet(world: World) -> None:
    """More machines vote than the quorum covers; two parts decide alone and meet; one cluster is fenced off."""
    world.watch.allows_rivals = True
    quorum = world.random.choice((2, 2, 3))
    sizes = [quorum + world.random.randint(0, 2) for _ in range(2)]
    sizes[0] = max(sizes[0], 2 * quorum - sizes[1])
    nodes = [world.add(Rules("kairos", quorum=quorum, nodes_to_start=quorum)) for _ in range(sum(sizes))]
    sides = nodes[: sizes[0]], nodes[sizes[0] :]
    world.part(*sides)
    world.meet_all(within=2.0)
    write(world, nodes, 2)
    world.run(until=world.random.uniform(9.0, 40.0))
    if world.random.random() < 0.4:
        victim = world.random.choice(nodes)
        victim.crash()
        world.run(until=world.now + world.random.uniform(0.0, 5.0))
        revive(world, victim)
    world.heal()
    world.meet_all(within=2.0)
    world.settle(AGREE, complaints=unfenced)
    _restart_one_fenced(world)
    world.settle(AGREE, complaints=unfenced)
    for node in world.up():
        if node.actions.fenced_by is not None:
            node.adopt(node.actions.fenced_by)
    world.settle(AGREE)


def _restart_one_fenced(world: World) -> None:
    """A restart must not bring a fenced cluster back."""
    fenced = [node for node in world.up() if node.actions.fenced_by is not None]
    if fenced and world.random.random() < 0.5:
        node = world.random.choice(fenced)
        node.crash()
        revive(world, node)
        world.run(until=world.now + 2.0)


def unfenced(world: World) -> Iterator[str]:
    """Yield what keeps two clusters that have met from being one that stays and one that is fenced off."""
    living = world.up()
    if len({node.ledger.digest for node in living}) > 1:
        yield "the ledgers differ"
    begun = world.watch.begun.values()
    if not begun:
        yield "no cluster was initialised"
        return
    stays = min(begun, key=lambda each: (-each.seen, each.round, each.cluster_id))
    for node in living:
        yield from _not_fenced(node, stays)
    offered = {server.cluster_id for server in living[0].view().servers}
    if offered != {stays.cluster_id}:
        yield f"{', '.join(sorted(offered)) or 'nothing'} is offered, and {stays.cluster_id} stays"


def _not_fenced(node: SimulatedNode, stays: Decision) -> Iterator[str]:
    ours, rival = node.actions.decision, node.actions.fenced_by
    if ours is None:
        yield f"{node.name} knows of no decision"
    elif ours == stays and rival is not None:
        yield f"{node.name} is of the cluster that stays, and fenced off by {rival.cluster_id}"
    elif ours != stays and (rival != stays or node.actions.phase != "fenced"):
        yield f"{node.name} is of {ours.cluster_id} and not fenced off by {stays.cluster_id}"
    elif ours != stays and node.actions.share:
        yield f"{node.name} is fenced off and shares the secrets of its cluster"
