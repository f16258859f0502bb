"""The gossip of 2 to 200 nodes on virtual time. A failing case names its seed; the seed replays it."""

import pytest

from kairos_core.protocol.agreement import GIVEN
from kairos_core.protocol.wire import Life
from kairos_core.testing.swarm import Swarm, SwarmNode

pytestmark = pytest.mark.simulation


def settled(seed: int, nodes: int, loss: float = 0.01) -> Swarm:
    swarm = Swarm(seed, nodes, loss=loss)
    swarm.acquaint()
    swarm.run(8.0, step=1.0)
    assert swarm.know_each_other()
    return swarm


def delivery(swarm: Swarm, node: SwarmNode, value: str = "x" * 100) -> list[float]:
    """Write an entry; return the seconds after which each node held it."""
    short_id, began = node.write("values", f"at {swarm.now}", value), swarm.now
    arrived: dict[int, float] = {}

    def is_everywhere() -> bool:
        for number, each in enumerate(swarm.nodes):
            if number not in arrived and each.ledger.find(short_id):
                arrived[number] = swarm.now - began
        return len(arrived) == len(swarm.nodes)

    assert swarm.run(5.0, is_everywhere, step=0.005)
    return sorted(arrived.values())


@pytest.mark.parametrize("nodes", [2, 3, 20, 200])
def test_without_loss_the_ring_leaves_nobody_out(nodes: int) -> None:
    swarm = settled(nodes, nodes, loss=0.0)
    for _ in range(10):
        assert delivery(swarm, swarm.random.choice(swarm.nodes))[-1] < 0.3
    assert sum(swarm.streams.values()) == 0


def test_with_loss_what_is_left_out_is_mended_within_seconds() -> None:
    swarm = settled(1, 50, loss=0.05)
    times = [time for _ in range(30) for time in delivery(swarm, swarm.random.choice(swarm.nodes))]
    assert sorted(times)[len(times) // 2] < 0.06
    assert sorted(times)[int(len(times) * 0.99)] < 0.3


@pytest.mark.parametrize("value", ["x" * 800, "x" * 9000])
def test_large_entries_are_announced_and_fetched(value: str) -> None:
    swarm = settled(2, 20)
    assert delivery(swarm, swarm.nodes[0], value)[-1] < 3.0


@pytest.mark.parametrize("nodes", [2, 3, 5, 50])
def test_a_killed_node_is_known_dead_by_all_and_nobody_else_is(nodes: int) -> None:
    swarm = settled(nodes, nodes)
    took = []
    for victim in swarm.nodes[: 1 if nodes < 50 else 5]:
        victim.is_up, began = False, swarm.now
        assert swarm.run(12.0, swarm.know_each_other)
        took.append(swarm.now - began)
    assert sorted(took)[len(took) // 2] < 6.0


@pytest.mark.parametrize(("nodes", "within"), [(3, 8.0), (60, 8.0), (100, 14.0)])
def test_who_alone_heard_a_refutation_notices_the_death_that_followed_with_the_others(
    nodes: int, within: float
) -> None:
    swarm = settled(nodes, nodes)
    lost, witness = swarm.nodes[1], swarm.nodes[2]
    lost.gossip._prober.incarnation += 1
    witness.gossip.membership.members[lost.peer].incarnation += 1
    lost.is_up = False
    assert swarm.run(within, swarm.know_each_other)


@pytest.mark.parametrize(("nodes", "gone", "within"), [(200, 1, 25.0), (200, 5, 60.0)])
def test_who_heard_nothing_of_the_deaths_learns_of_them_by_the_census(nodes: int, gone: int, within: float) -> None:
    swarm = settled(nodes, nodes)
    deaf, lost = swarm.nodes[0], swarm.nodes[1 : 1 + gone]
    for node in lost:
        node.is_up = False
    assert swarm.run(60.0, swarm.know_each_other)
    swarm.run(60.0)  # nobody carries the news any more
    prober, table = deaf.gossip._prober, deaf.gossip.membership
    for node in lost:
        table.become(table.members[node.peer], Life.ALIVE)
    prober._round = [member for member in table.alive() if member.peer not in {node.peer for node in lost}]
    assert swarm.run(within, swarm.know_each_other)


@pytest.mark.parametrize(("nodes", "loss", "seconds"), [(2, 0.1, 600), (3, 0.1, 600), (20, 0.1, 300)])
def test_loss_alone_kills_nobody(nodes: int, loss: float, seconds: float) -> None:
    swarm = settled(nodes, nodes, loss=0.0)
    swarm.loss = loss
    assert not swarm.run(seconds, lambda: not swarm.know_each_other(), step=1.0)


def test_a_peer_behind_a_broken_link_is_reached_through_others() -> None:
    swarm = settled(4, 6)
    one, other = swarm.nodes[:2]
    carry = swarm.carry

    def cut(sender: SwarmNode, datagram: bytes, destination: object) -> None:
        if {sender.address, destination} != {one.address, other.address}:
            carry(sender, datagram, destination)  # type: ignore[arg-type]

    swarm.carry = cut  # type: ignore[method-assign]
    assert not swarm.run(60.0, lambda: not swarm.know_each_other(), step=0.5)


@pytest.mark.parametrize(("nodes", "within"), [(5, 5.0), (50, 10.0)])
def test_after_a_partition_all_know_each_other_and_agree(nodes: int, within: float) -> None:
    swarm = settled(nodes, nodes)
    left, right = swarm.nodes[: nodes * 3 // 5], swarm.nodes[nodes * 3 // 5 :]
    swarm.part(left, right)
    swarm.run(30.0, step=1.0)
    for number, node in enumerate(swarm.nodes):
        node.write("values", f"{number}", number)
    swarm.run(30.0, step=1.0)
    assert not left[0].alive & {node.peer for node in right}
    swarm.part()
    assert swarm.run(within, lambda: swarm.know_each_other() and swarm.agree())


def test_a_restarted_node_is_alive_for_all_at_once() -> None:
    swarm = settled(6, 30)
    victim = swarm.nodes[7]
    victim.is_up = False
    assert swarm.run(12.0, swarm.know_each_other)
    victim.start()
    swarm.meet(victim, swarm.nodes[0])
    assert swarm.run(3.0, lambda: swarm.know_each_other() and swarm.agree())


@pytest.mark.parametrize("nodes", [20, 50])
def test_an_idle_node_sends_one_probe_a_second_and_little_else(nodes: int) -> None:
    swarm = settled(nodes, nodes)
    swarm.run(10.0, step=1.0)
    swarm.sent.clear()
    swarm.run(60.0, step=1.0)
    assert sum(swarm.sent.values()) / nodes / 60 < 270, "bytes per node and second, IP and UDP headers included"


def test_a_large_network_forms_from_single_introductions_with_few_streams() -> None:
    swarm = Swarm(seed=8, nodes=100, loss=0.01)
    for number, node in enumerate(swarm.nodes[1:], 1):
        swarm.meet(node, swarm.nodes[swarm.random.randrange(number)])
    assert swarm.run(15.0, lambda: swarm.know_each_other() and swarm.agree(), step=0.25)
    assert max(swarm.streams.values()) < 25, "no node is dialled by, or dials, all the others"
    assert sum(swarm.streams.values()) < 2 * len(swarm.nodes)


def lacking(swarm: Swarm, entries: int, size: int = 60) -> None:
    """Let the first node write what no datagram brings to the others."""
    loss, swarm.loss = swarm.loss, 1.0
    for number in range(entries):
        swarm.nodes[0].write("values", f"{number}", "v" * size)
    swarm.run(0.3)
    swarm.loss = loss
    swarm.sent.clear()


def test_a_small_difference_is_mended_by_datagrams_and_a_few_kilobytes() -> None:
    swarm = settled(9, 2, loss=0.0)
    lacking(swarm, 10)
    assert swarm.run(3.0, swarm.agree)
    assert sum(swarm.streams.values()) == 0
    assert sum(swarm.sent.values()) < 4096, "entries, cells, headers and the pings meanwhile"


@pytest.mark.parametrize(("entries", "size"), [(150, 200), (900, 10), (3, 9000)])
def test_a_large_difference_is_mended_by_a_stream(entries: int, size: int) -> None:
    swarm = settled(10, 2, loss=0.0)
    lacking(swarm, entries, size)
    assert swarm.run(12.0, swarm.agree)
    assert 1 <= sum(swarm.streams.values()) <= 4
    assert sum(swarm.sent.values()) < 4 * GIVEN


def test_a_difference_is_mended_while_news_never_ceases() -> None:
    swarm = settled(11, 5, loss=0.0)
    lacking(swarm, 3)
    for tick in range(200):
        node = swarm.nodes[1 + tick % 4]
        swarm.at(swarm.now + tick * 0.1, lambda node=node, tick=tick: node.write("values", "busy", tick))  # type: ignore[misc]
    assert swarm.run(12.0, lambda: all(node.reads("values", "2") for node in swarm.nodes))
