"""The election of whole networks on virtual time: never two initialisers."""

import pytest

from kairos_core.cluster.election import Rules
from kairos_core.model import Role
from kairos_core.testing.simulator import World


def roles(world: World) -> list[str]:
    return sorted(str(node.role) for node in world.nodes if node.is_up)


@pytest.mark.parametrize("seed", range(20))
def test_five_nodes_that_start_at_once_choose_one_master(seed: int) -> None:
    world = World(seed, loss=0.05)
    for _ in range(5):
        world.add(Rules("kairos", quorum=3, nodes_to_start=5, expected=5))
    world.meet_all(within=2.0)
    world.run(until=25.0)
    assert len(world.initialised) == 1
    assert roles(world) == ["master", "worker", "worker", "worker", "worker"]


@pytest.mark.parametrize("seed", range(20))
def test_the_default_token_in_one_lan_never_gives_two_initialisers(seed: int) -> None:
    world = World(seed, loss=0.02)
    for _ in range(4):
        world.add(Rules("kairos", quorum=2, nodes_to_start=2))
    world.meet_all(within=3.0)
    world.run(until=40.0)
    assert len(world.initialised) == 1


@pytest.mark.parametrize("seed", range(20))
def test_two_islands_at_boot_give_one_cluster_when_the_token_carries_the_quorum(seed: int) -> None:
    world = World(seed)
    nodes = [world.add(Rules("kairos", quorum=3, nodes_to_start=2)) for _ in range(5)]
    world.part(nodes[:2], nodes[2:])
    world.meet_all(within=2.0)
    world.run(until=45.0)
    assert len(world.initialised) <= 1
    world.heal()
    world.meet_all(within=2.0)
    world.run(until=90.0)
    assert len(world.initialised) == 1
    assert roles(world).count("worker") == 4


@pytest.mark.parametrize("seed", range(10))
def test_ha_masters_are_decided_together_with_the_first(seed: int) -> None:
    world = World(seed)
    for _ in range(5):
        world.add(Rules("kairos", quorum=3, nodes_to_start=5, expected=5, ha_masters=2))
    world.meet_all(within=1.0)
    world.run(until=20.0)
    assert roles(world) == ["master/clusterinit", "master/ha", "master/ha", "worker", "worker"]


def test_a_leader_that_crashes_in_the_middle_is_followed_by_another() -> None:
    for seed in range(10):
        world = World(seed)
        for _ in range(5):
            world.add(Rules("kairos", quorum=3, nodes_to_start=3, expected=5))
        world.meet_all(within=0.5)
        while not any(node.actions.local.candidacy.round for node in world.nodes):
            world.run(until=world.now + 0.005)
        leader = next(node for node in world.nodes if node.actions.local.candidacy.round)
        leader.crash()
        world.run(until=60.0)
        living = [node for node in world.nodes if node.is_up]
        decided = {node.durable.ballots.decided for node in living}
        assert len(decided) == 1, f"seed {seed}"
        assert None not in decided, f"seed {seed}"
        leader.boot()
        world.reconcile(leader, living[0].address)
        world.run(until=120.0)
        assert len(world.initialised) == 1, f"seed {seed}"


def test_a_restarted_initialiser_resumes_and_nobody_else_initialises() -> None:
    world = World(seed=2)
    for _ in range(3):
        world.add(Rules("kairos", quorum=2, nodes_to_start=3, expected=3))
    world.meet_all(within=0.5)
    world.run(until=10.0)
    first = next(node for node in world.nodes if node.role is Role.MASTER)
    first.crash()
    world.run(until=30.0)
    first.boot()
    world.reconcile(first, world.nodes[(world.nodes.index(first) + 1) % 3].address)
    world.run(until=50.0)
    assert first.role is Role.MASTER
    assert {peer for _, peer, _ in world.initialised} == {first.peer}
    assert len({cluster for _, _, cluster in world.initialised}) == 1


def test_one_machine_alone_starts_when_told_that_one_is_enough() -> None:
    world = World(seed=3)
    world.add(Rules("kairos", quorum=1, nodes_to_start=1))
    world.run(until=15.0)
    assert roles(world) == ["master"]


def test_forced_roles_are_honoured_and_operators_have_no_vote() -> None:
    world = World(seed=4)
    rules = Rules("kairos", quorum=2, nodes_to_start=3)
    forced = world.add(rules, wish=Role.MASTER)
    none, worker = world.add(rules, wish=Role.NONE), world.add(rules, wish=Role.WORKER)
    free = world.add(rules)
    bridge = world.add(rules, kind="operator")
    world.meet_all(within=1.0)
    world.run(until=30.0)
    assert [n.role for n in (forced, none, worker, free, bridge)] == [
        Role.MASTER,
        Role.NONE,
        Role.WORKER,
        Role.WORKER,
        None,
    ]
    assert bridge.durable.ballots.register is None
    assert none.durable.ballots.register is None


def test_a_late_joiner_becomes_a_worker() -> None:
    world = World(seed=5)
    rules = Rules("kairos", quorum=2, nodes_to_start=3, expected=3)
    for _ in range(3):
        world.add(rules)
    world.meet_all(within=0.5)
    world.run(until=10.0)
    late = world.add(rules)
    world.reconcile(late, world.nodes[0].address)
    world.run(until=20.0)
    assert late.role is Role.WORKER
    assert len(world.initialised) == 1


def test_two_networks_ids_under_one_token_make_two_separate_clusters() -> None:
    world = World(seed=6)
    for network_id in ("one", "two"):
        for _ in range(3):
            world.add(Rules(network_id, quorum=2, nodes_to_start=3, expected=3))
    world.meet_all(within=0.5)
    world.run(until=10.0)
    assert roles(world) == ["master"] * 2 + ["worker"] * 4
    assert len({cluster for _, _, cluster in world.initialised}) == 2
