"""The gossip of whole networks on virtual time. A failing case names its seed; the seed replays it."""

import pytest

from kairos_core.cluster.election import Rules
from kairos_core.testing.simulator import World

pytestmark = pytest.mark.simulation

RULES = Rules("kairos", quorum=99)


def grown(seed: int, nodes: int, loss: float = 0.0) -> World:
    world = World(seed, loss=loss)
    for _ in range(nodes):
        world.add(RULES)
    world.meet_all(within=1.0)
    world.run(until=5.0)
    return world


def digests(world: World) -> set[bytes]:
    return {node.ledger.digest for node in world.nodes if node.is_up}


@pytest.mark.parametrize("nodes", [2, 3, 12])
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_what_one_writes_all_read(nodes: int, loss: float) -> None:
    world = grown(seed=nodes, nodes=nodes, loss=loss)
    world.nodes[0].publish("values", "greeting", "hello")
    world.run(until=world.now + (1.0 if loss == 0 else 8.0))
    assert {node.ledger.get("values", "greeting", node.unix_now()).content for node in world.nodes} == {"hello"}


def test_two_who_write_at_once_both_keep_their_entries() -> None:
    world = grown(seed=1, nodes=5)
    for number, node in enumerate(world.nodes):
        node.publish("values", f"from-{number}", number)
    world.run(until=world.now + 3.0)
    assert len(digests(world)) == 1
    assert sum(entry.bucket == "values" for entry in world.nodes[0].ledger.read(world.nodes[0].unix_now())) == 5


@pytest.mark.parametrize("seed", range(5))
def test_a_healed_partition_loses_no_write_and_resurrects_no_delete(seed: int) -> None:
    world = grown(seed, nodes=6)
    world.nodes[0].publish("values", "doomed", 1)
    world.run(until=world.now + 3.0)
    left, right = world.nodes[:3], world.nodes[3:]
    world.part(left, right)
    left[0].publish("values", "left", 1)
    right[0].publish("values", "doomed", None)
    for n in range(20):
        left[1].publish("values", f"busy-{n}", n)
    world.run(until=world.now + 20.0)
    assert len(digests(world)) == 2
    world.heal()
    world.run(until=world.now + 25.0)
    assert len(digests(world)) == 1
    last = world.nodes[5]
    assert last.ledger.get("values", "left", last.unix_now()) is not None
    assert all(n.ledger.get("values", "doomed", n.unix_now()) is None for n in world.nodes)


def test_a_crashed_node_is_noticed_by_all_and_noticed_again_when_it_returns() -> None:
    world = grown(seed=3, nodes=5)
    lost = world.nodes[4]
    lost.crash()
    world.run(until=world.now + 15.0)
    assert all(len(node.gossip.membership.alive()) == 3 for node in world.nodes[:4])
    lost.boot()
    world.reconcile(lost, world.nodes[0].address)
    world.run(until=world.now + 15.0)
    assert all(len(node.gossip.membership.alive()) == 4 for node in world.nodes)


def test_a_clock_within_an_epoch_of_ours_is_no_obstacle() -> None:
    world = World(seed=4)
    for skew in (0.0, 3000.0, -3000.0):
        world.add(RULES).skew = skew
    world.meet_all(within=1.0)
    world.run(until=5.0)
    assert all(len(node.gossip.membership.alive()) == 2 for node in world.nodes)


def test_an_idle_network_is_quiet() -> None:
    world = grown(seed=5, nodes=10)
    world.run(until=60.0)
    sent: list[int] = []
    carry = world.carry
    world.carry = lambda sender, data, to: (sent.append(len(data) + 28), carry(sender, data, to))[1]
    world.run(until=160.0)
    assert sum(sent) / 10 / 100 < 300, "bytes per node and second, IP and UDP headers included"


@pytest.mark.parametrize(("loss", "within"), [(0.0, 1.25), (0.01, 2.0)])
def test_who_meets_one_node_meets_all_with_at_most_a_second_probe(loss: float, within: float) -> None:
    world = World(seed=11, latency=(0.0005, 0.003), loss=loss)
    for _ in range(20):
        world.add(RULES)
    for node in world.nodes[1:]:
        world.reconcile(node, world.nodes[0].address)
    world.run(until=within)
    assert {len(node.gossip.membership.alive()) for node in world.nodes} == {19}
