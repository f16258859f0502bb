"""The election of whole networks on virtual time: never two initialisers."""

import pytest

from kairos_core.cluster.election import Rules
from kairos_core.model import Role
from kairos_core.testing.simulator import SimulatedNode, World

pytestmark = pytest.mark.simulation


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


def initialised_clusters(world: World) -> set[str | None]:
    return {cluster for _, _, cluster in world.initialised}


def meet_again(world: World, node: SimulatedNode) -> None:
    for other in world.nodes:
        if other is not node and other.is_up:
            world.reconcile(node, other.address)


@pytest.mark.parametrize("seed", range(12))
def test_machines_that_lose_their_memory_in_the_middle_never_lead_to_two_clusters(seed: int) -> None:
    world = World(seed, loss=0.05)
    for _ in range(5):
        world.add(Rules("kairos", quorum=3, nodes_to_start=3, expected=5))
    world.meet_all(within=1.0)
    for _ in range(4):
        world.run(until=world.now + world.random.uniform(0.1, 1.0))
        node = world.random.choice(world.nodes)
        node.wipe()
        world.run(until=world.now + world.random.uniform(0.1, 3.0))
        node.boot()
        meet_again(world, node)
    world.run(until=90.0)
    assert len(initialised_clusters(world)) <= 1
    decisions = {node.durable.ballots.decided for node in world.nodes}
    assert len(decisions) == 1
    assert None not in decisions


def test_a_voter_without_memory_is_silent_until_enough_others_have_promised_its_barrier() -> None:
    world = World(seed=8)
    nodes = [world.add(Rules("kairos", quorum=2, nodes_to_start=3)) for _ in range(3)]
    world.meet_all(within=0.5)
    world.run(until=2.0)
    nodes[0].wipe()
    nodes[1].crash()
    nodes[0].boot()
    world.reconcile(nodes[0], nodes[2].address)
    world.run(until=9.0)
    assert nodes[0].durable.ballots.recovery is not None
    assert nodes[0].durable.ballots.register is None
    assert "does not vote" in nodes[0].actions.message
    nodes[1].boot()
    meet_again(world, nodes[1])
    world.run(until=40.0)
    assert nodes[0].durable.ballots.recovery is None
    assert roles(world) == ["master", "worker", "worker"]


def wiped_of_two(seed: int) -> tuple[World, SimulatedNode]:
    """Let one of two voters lose its disk before anything is decided, where both are needed."""
    world = World(seed)
    nodes = [world.add(Rules("kairos", quorum=2, nodes_to_start=2)) for _ in range(2)]
    world.meet_all(within=0.5)
    world.run(until=2.0)
    nodes[0].wipe()
    nodes[0].boot()
    meet_again(world, nodes[0])
    world.run(until=60.0)
    assert not world.initialised, "whoever knew what it had promised is needed for the decision too"
    assert "kairos cluster new-generation" in nodes[0].actions.message
    return world, nodes[1]


def test_where_too_few_others_vote_a_new_generation_helps_whoever_lost_its_memory() -> None:
    world, other = wiped_of_two(seed=3)
    other.ask_for_generation()
    world.run(until=90.0)
    assert roles(world) == ["master", "worker"]


def test_where_too_few_others_vote_a_further_machine_helps_too() -> None:
    world, _ = wiped_of_two(seed=4)
    third = world.add(Rules("kairos", quorum=2, nodes_to_start=2))
    meet_again(world, third)
    world.run(until=90.0)
    assert roles(world) == ["master", "worker", "worker"]


def test_a_wiped_initialiser_does_not_initialise_again_and_the_others_go_on() -> None:
    world = World(seed=9)
    for _ in range(3):
        world.add(Rules("kairos", quorum=2, nodes_to_start=3, expected=3))
    world.meet_all(within=0.5)
    world.run(until=10.0)
    first = next(node for node in world.nodes if node.role is Role.MASTER)
    first.wipe()
    first.boot()
    meet_again(world, first)
    world.run(until=40.0)
    assert len(world.initialised) == 1
    assert first.role is None
    assert "its disk was replaced" in first.actions.message


def lost_master(seed: int) -> tuple[World, SimulatedNode, list[SimulatedNode]]:
    """Let three nodes form a cluster, and its only master go."""
    world = World(seed)
    for _ in range(3):
        world.add(Rules("kairos", quorum=2, nodes_to_start=3, expected=3))
    world.meet_all(within=0.5)
    world.run(until=15.0)
    master = next(node for node in world.nodes if node.role is Role.MASTER)
    master.crash()
    world.run(until=60.0)
    return world, master, [node for node in world.nodes if node is not master]


@pytest.mark.parametrize("seed", range(5))
def test_a_new_generation_replaces_a_lost_master_and_only_when_it_is_asked_for(seed: int) -> None:
    world, master, others = lost_master(seed)
    assert len(world.initialised) == 1, "a dead sole master is never replaced by itself"
    others[0].ask_for_generation()
    world.run(until=90.0)
    assert sorted(str(node.role) for node in others) == ["master", "worker"]
    assert len(initialised_clusters(world)) == 2
    assert {node.durable.generation for node in others} == {2}
    assert {node.durable.runs for node in others} == {others[0].durable.ballots.decided.cluster_id}

    old = master.durable.intent
    master.boot()
    meet_again(world, master)
    world.run(until=120.0)
    assert (master.role, master.durable.generation, master.durable.served) == (None, 2, old)
    assert "kairos cluster adopt" in master.actions.message
    assert len(initialised_clusters(world)) == 2
    master.adopt(master.actions.decision)
    world.run(until=130.0)
    assert master.role is Role.WORKER


def test_a_generation_outlives_whoever_asked_for_it() -> None:
    world, master, others = lost_master(seed=3)
    laptop = world.add(Rules("kairos", quorum=2), kind="operator")
    meet_again(world, laptop)
    world.run(until=62.0)
    laptop.ask_for_generation()
    world.run(until=66.0)
    laptop.crash()
    asked = {entry.author for entry in others[0].ledger.read(others[0].unix_now()) if entry.bucket == "generations"}
    assert asked == {laptop.peer, *(node.peer for node in others)}
    master.boot()
    meet_again(world, master)
    world.run(until=90.0)
    assert master.durable.generation == 2


def two_clusters(seed: int) -> tuple[World, list[SimulatedNode], list[SimulatedNode]]:
    """Let two halves decide without knowing of each other, which a quorum of 2 allows with five nodes."""
    world = World(seed)
    world.watch.allows_rivals = True
    nodes = [world.add(Rules("kairos", quorum=2, nodes_to_start=2)) for _ in range(5)]
    large, small = nodes[:3], nodes[3:]
    world.part(large, small)
    world.meet_all(within=1.0)
    world.run(until=40.0)
    assert len(initialised_clusters(world)) == 2, "the bound that is documented: more than 2q - 1 voters"
    world.heal()
    world.meet_all(within=1.0)
    world.run(until=60.0)
    return world, large, small


@pytest.mark.parametrize("seed", range(5))
def test_of_two_clusters_that_meet_the_smaller_is_fenced_off_and_nothing_is_destroyed(seed: int) -> None:
    world, large, small = two_clusters(seed)
    assert [node.actions.phase == "fenced" for node in (*large, *small)] == [False] * 3 + [True] * 2
    winner = large[0].actions.decision
    assert {node.actions.fenced_by for node in small} == {winner}
    loser = next(node for node in small if node.durable.intent)
    assert loser.actions.plan is not None, "what it runs goes on"
    offered = {server.cluster_id for server in large[0].view().servers}
    assert offered == {winner.cluster_id}, "but it is offered to nobody"
    assert f"kairos cluster adopt {winner.cluster_id}" in loser.actions.message

    loser.crash()
    loser.boot()
    meet_again(world, loser)
    world.run(until=70.0)
    assert loser.actions.phase == "fenced", "a restart changes nothing"
    for node in small:
        node.adopt(winner)
    world.run(until=80.0)
    assert roles(world) == ["master", *["worker"] * 4]
    assert {node.durable.runs for node in world.nodes} == {winner.cluster_id}


def test_an_operator_may_keep_the_fenced_cluster_instead_first_master_first() -> None:
    world, large, small = two_clusters(seed=1)
    fenced = small[0].actions.decision
    for node in sorted(large, key=lambda node: node.durable.intent is None):
        node.adopt(fenced)
        world.run(until=world.now + 10.0)
    assert {node.actions.decision for node in world.nodes} == {fenced}
    assert {node.actions.phase for node in small} <= {"ready", "starting"}
    assert {node.durable.runs for node in large} == {fenced.cluster_id}


def test_a_newcomer_joins_the_cluster_that_stays() -> None:
    world, large, _ = two_clusters(seed=2)
    late = world.add(Rules("kairos", quorum=2, nodes_to_start=2))
    meet_again(world, late)
    world.run(until=80.0)
    assert (late.role, late.durable.runs) == (Role.WORKER, large[0].actions.decision.cluster_id)


def test_a_lost_ha_master_is_replaced_by_a_worker_and_waits_when_it_returns() -> None:
    world = World(seed=4)
    for _ in range(5):
        world.add(Rules("kairos", quorum=3, nodes_to_start=5, expected=5, ha_masters=2))
    world.meet_all(within=0.5)
    world.run(until=10.0)
    lost = next(node for node in world.nodes if node.role is Role.HA)
    lost.crash()
    world.run(until=10.0 + 290.0)
    assert roles(world) == ["master/clusterinit", "master/ha", "worker", "worker"]
    world.run(until=10.0 + 330.0)
    assert roles(world) == ["master/clusterinit", "master/ha", "master/ha", "worker"]
    lost.boot()
    meet_again(world, lost)
    world.run(until=360.0)
    assert lost.role is None
    assert lost.actions.message.startswith("replaced")
    lost.adopt(lost.actions.decision)
    world.run(until=370.0)
    assert lost.role is Role.WORKER


@pytest.mark.parametrize("seed", range(8))
def test_no_worker_is_stranded_though_every_third_message_is_lost(seed: int) -> None:
    world = World(seed, loss=0.33)
    for _ in range(5):
        world.add(Rules("kairos", quorum=3, nodes_to_start=5, expected=5))
    world.meet_all(within=0.5)
    world.run(until=60.0)
    assert roles(world) == ["master", *["worker"] * 4]
    assert len({node.durable.runs for node in world.nodes}) == 1
