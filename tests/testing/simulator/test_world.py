"""Virtual time: what happens, in which order, and what of it follows from the seed."""

import pytest

from kairos_core.cluster.election import Rules
from kairos_core.testing.simulator import Conditions, SimulatedNode, Violation, World

RULES = Rules("kairos", quorum=2, nodes_to_start=2, expected=2)


def pair(seed: int = 1) -> tuple[World, SimulatedNode, SimulatedNode]:
    world = World(seed)
    one, other = world.add(RULES), world.add(RULES)
    return world, one, other


def test_events_happen_in_the_order_of_their_times_and_those_of_one_moment_in_the_order_they_were_planned() -> None:
    world, seen = World(1), []
    for when, name in ((2.0, "late"), (1.0, "first"), (1.0, "second")):
        world.at(when, lambda name=name: seen.append((world.now, name)))
    world.run(until=1.5)
    assert (seen, world.now) == ([(1.0, "first"), (1.0, "second")], 1.5)
    world.run(until=3.0)
    assert seen[2:] == [(2.0, "late")]


def test_what_is_planned_for_the_past_happens_now() -> None:
    world, seen = World(1), []
    world.run(until=5.0)
    world.at(1.0, lambda: seen.append(world.now))
    world.run(until=5.0)
    assert seen == [5.0]


def test_a_seed_gives_the_same_world_again_and_another_seed_another() -> None:
    def fingerprint(seed: int) -> str:
        world, *_ = pair(seed)
        world.meet_all(within=1.0)
        world.run(until=3.0)
        return world.fingerprint

    assert fingerprint(1) == fingerprint(1) != fingerprint(2)


def test_a_partition_holds_both_ways_until_it_heals_and_a_block_one_way() -> None:
    world, one, other = pair()
    world.part([one], [other])
    assert not world.network.carries(one.address, other.address)
    assert not world.network.connects(one.address, other.address)
    world.heal()
    world.block([one], [other])
    assert not world.network.carries(one.address, other.address)
    assert world.network.carries(other.address, one.address)
    assert not world.network.connects(one.address, other.address), "a stream needs both ways"


def test_lost_datagrams_never_arrive_and_doubled_ones_arrive_twice() -> None:
    world, one, other = pair()
    world.network.conditions = Conditions(loss=1.0)
    assert world.network.arrivals(one.address, other.address) == []
    world.network.conditions = Conditions(duplicates=1.0)
    delays = world.network.arrivals(one.address, other.address)
    assert len(delays) == 2
    assert min(delays) > 0.0


def test_what_a_crashed_node_had_planned_does_not_happen_in_its_next_life() -> None:
    world, one, _ = pair()
    seen: list[str] = []
    one.later(1.0, lambda: seen.append("planned in the first life"))
    one.later(3.0, lambda: seen.append("too late"))
    world.run(until=2.0)
    one.crash()
    one.boot()
    one.later(2.0, lambda: seen.append("planned in the second life"))
    world.run(until=5.0)
    assert seen == ["planned in the first life", "planned in the second life"]


def test_settling_says_what_it_waits_for_and_raises_when_that_takes_too_long() -> None:
    world, *_ = pair()
    with pytest.raises(Violation, match=r"^3 s after all was well again, the ledgers differ"):
        world.settle(3.0)
    world.meet_all(within=0.1)
    assert world.settle(30.0) < 10.0


def test_a_value_that_is_lost_is_a_violation() -> None:
    world, one, other = pair()
    world.meet_all(within=0.1)
    world.write(one, "colour", "blue")
    world.settle(30.0)
    other.publish("values", "colour", "red")
    with pytest.raises(Violation, match="values/colour is lost"):
        world.settle(3.0)


def test_a_disk_that_lies_forgets_its_last_save_and_no_other() -> None:
    world, one, _ = pair()
    world.meet_all(within=0.1)
    world.settle(30.0)
    one.crash(loses_last_save=True)
    assert one.disk.durable != one.durable
    kept = one.disk.durable
    one.disk.forget_last_save()
    assert one.disk.durable == kept
