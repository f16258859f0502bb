"""The anomalies that honest nodes suffer in the reference's ledger, and not in ours. One test each."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from kairos_core.cluster import addresses
from kairos_core.cluster.election import Rules
from kairos_core.protocol.buckets import LEASES
from kairos_core.protocol.entry import LEASE
from kairos_core.testing.simulator import World
from kairos_core.testing.swarm import Swarm

pytestmark = pytest.mark.simulation

POOL = IPv4Network("10.1.0.0/24")


def settled(nodes: int, seed: int = 1) -> Swarm:
    swarm = Swarm(seed, nodes)
    swarm.acquaint()
    swarm.run(3.0, step=0.5)
    return swarm


def reads(swarm: Swarm, key: str) -> set[object]:
    return {node.reads("values", key) for node in swarm.nodes}


def test_1_of_two_who_write_at_once_neither_loses_anything() -> None:
    swarm = settled(6)
    for number, node in enumerate(swarm.nodes):
        for n in range(5):
            node.write("values", f"{number}/{n}", n)
    assert swarm.run(5.0, swarm.agree)
    assert all(reads(swarm, f"{number}/{n}") == {n} for number in range(6) for n in range(5))


def test_2_after_a_partition_the_busier_side_wipes_nothing_of_the_other() -> None:
    swarm = settled(6)
    swarm.part(swarm.nodes[:3], swarm.nodes[3:])
    swarm.nodes[0].write("values", "quiet", "one write")
    for n in range(200):
        swarm.nodes[5].write("values", f"busy-{n % 50}", n)
    swarm.run(20.0, step=0.5)
    swarm.part()
    assert swarm.run(15.0, swarm.agree)
    assert reads(swarm, "quiet") == {"one write"}
    assert reads(swarm, "busy-49") == {199}


def test_3_a_delete_concurrent_with_other_writes_is_not_undone() -> None:
    swarm = settled(6)
    swarm.nodes[0].write("values", "doomed", "here")
    swarm.run(2.0)
    swarm.part(swarm.nodes[:3], swarm.nodes[3:])
    swarm.nodes[0].write("values", "doomed", None)
    for n in range(30):
        swarm.nodes[5].write("values", f"other-{n}", n)
    swarm.run(20.0, step=0.5)
    swarm.part()
    assert swarm.run(15.0, swarm.agree)
    assert reads(swarm, "doomed") == {None}
    assert reads(swarm, "other-29") == {29}


def test_4_an_address_claimed_on_two_sides_has_one_holder_afterwards_while_both_live() -> None:
    swarm = settled(6)
    swarm.part(swarm.nodes[:3], swarm.nodes[3:])
    for node in (swarm.nodes[0], swarm.nodes[5]):
        node.write(LEASES, f"10.1.0.7/{node.peer}", {"renewals": 0})
    swarm.run(15.0, step=0.5)
    swarm.part()
    assert swarm.run(15.0, lambda: swarm.agree() and swarm.know_each_other())
    holders = {
        addresses.holders(addresses.read_claims(node.ledger.read(node.unix_now())), POOL)[IPv4Address("10.1.0.7")]
        for node in swarm.nodes
    }
    assert len(holders) == 1
    assert holders <= {swarm.nodes[0].peer, swarm.nodes[5].peer}


def test_5_a_clock_ten_minutes_ahead_leaves_no_divergent_owner() -> None:
    swarm = settled(5)
    swarm.nodes[0].skew = 590.0
    swarm.nodes[0].write("values", "owner", "the fast clock")
    swarm.run(2.0)
    swarm.nodes[1].write("values", "owner", "a right clock, later")
    assert swarm.run(5.0, swarm.agree)
    assert reads(swarm, "owner") == {"a right clock, later"}, "what was seen before is before, whatever clocks say"


def test_6_tombstones_that_are_forgotten_bring_nothing_back() -> None:
    swarm = settled(4)
    old = swarm.nodes[3]
    swarm.nodes[0].write("values", "gone", "here")
    swarm.run(2.0)
    old.is_up = False
    swarm.nodes[0].write("values", "gone", None)
    swarm.run(2.0)
    for node in swarm.nodes:
        node.skew = LEASE + 10.0
    for node in swarm.up():
        node.gossip.expire(node.unix_now())
    assert all(len(node.ledger) < 4 for node in swarm.up()), "the tombstone is forgotten, with all that is old"
    old.is_up = True
    old.flush()
    swarm.meet(old, swarm.nodes[0])
    swarm.run(10.0, step=0.5)
    assert {node.reads("values", "gone") for node in swarm.nodes} == {None}
    assert sum(node.gossip.drops["expired"] for node in swarm.up()) > 0, "it was offered, and refused"


def test_7_two_sides_of_a_partition_never_name_two_initialisers() -> None:
    for seed in range(5):
        world = World(seed)
        nodes = [world.add(Rules("kairos", quorum=3, nodes_to_start=2)) for _ in range(5)]
        world.part(nodes[:2], nodes[2:])
        world.meet_all(within=2.0)
        world.run(until=40.0)
        world.heal()
        world.meet_all(within=2.0)
        world.run(until=80.0)
        assert len(world.initialised) == 1, f"seed {seed}"


def test_8_a_clock_a_year_ahead_beats_no_later_writer() -> None:
    swarm = settled(5)
    ahead = swarm.nodes[0]
    ahead.skew = 365 * 86_400.0
    short_id = ahead.write("values", "answer", "from the future")
    ahead.skew = 0.0  # so that its datagrams can be read: the entry alone is from the future
    raw = ahead.ledger.find(short_id).raw
    for node in swarm.nodes[1:]:
        node.gossip.take_entries([raw], swarm.now, node.unix_now(), sender=ahead.peer)
    swarm.nodes[1].write("values", "answer", 42)
    swarm.run(5.0, step=0.5)
    assert {node.reads("values", "answer") for node in swarm.nodes[1:]} == {42}
    assert all(node.gossip.drops["ahead"] for node in swarm.nodes[1:])
