"""Busy polling: when it looks, for how long, and that it never costs more than its budget."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.busypoll import BREATH, BRIEF, HOPE, LONGEST, NEAR, OTHERS, PURSE, SHARE, BusyPoll, Events

TUN, UDP = 4, 5
LOOK = 1e-6
WORK = 10e-6


@dataclass
class World:
    """Events on a clock that only looking, sleeping and working move."""

    arrivals: list[tuple[float, int]] = field(default_factory=list)
    now: float = 100.0
    looked: float = 0.0
    """Seconds spent on looks of no time."""
    slept: int = 0
    gave_way: int = 0
    others: float = 0.0
    """Seconds that somebody else takes the processor for when it is given away."""

    def poll(self, timeout: float) -> Events:
        if timeout == 0:
            self.now += LOOK
            self.looked += LOOK
        else:
            self.slept += 1
            until = self.now + timeout / 1000 if timeout > 0 else 1e9
            self.now = min(self.arrivals[0][0] if self.arrivals else 1e9, until)
        found = [(source, 1) for at, source in self.arrivals if at <= self.now]
        self.arrivals = [each for each in self.arrivals if each[0] > self.now]
        return found

    def give_way(self) -> None:
        self.gave_way += 1
        self.now += self.others

    def polling(self) -> BusyPoll:
        return BusyPoll(self.poll, lambda: self.now, self.give_way)


def in_(world: World, seconds: float, source: int) -> None:
    world.arrivals.append((world.now + seconds, source))


def test_a_reply_within_reach_is_met_awake() -> None:
    world = World()
    polling = world.polling()
    in_(world, 1.0, TUN)
    assert polling.wait(-1) == [(TUN, 1)]
    assert world.slept == 1
    world.now += WORK
    in_(world, LONGEST / 2, UDP)
    assert polling.wait(-1) == [(UDP, 1)]
    assert world.slept == 1
    assert world.gave_way > 10


def test_the_next_part_of_a_stream_that_comes_in_is_met_awake() -> None:
    world = World()
    polling = world.polling()
    for _ in range(1000):
        world.now += WORK
        in_(world, NEAR / 2, UDP)
        assert polling.stay() == [(UDP, 1)]
    assert world.slept == 0
    assert world.gave_way > 10_000


def test_a_part_that_waits_already_costs_one_look() -> None:
    world = World()
    polling = world.polling()
    in_(world, 0.0, UDP)
    assert polling.stay() == [(UDP, 1)]
    assert (world.looked, world.gave_way) == (LOOK, 0)


def test_in_a_stream_it_sleeps_where_somebody_else_wants_the_processor() -> None:
    world = World(others=1.1 * OTHERS)
    polling = world.polling()
    in_(world, NEAR / 2, UDP)
    assert polling.stay() == [(UDP, 1)]
    assert (world.slept, world.gave_way) == (1, 1)


def test_in_a_slow_stream_it_sleeps_most_of_the_time() -> None:
    world = World()
    polling = world.polling()
    began, parts = world.now, 10_000
    for _ in range(parts):
        world.now += WORK
        in_(world, 5 * NEAR, UDP)
        assert polling.stay() == [(UDP, 1)]
    assert world.looked <= PURSE + HOPE * (world.now - began) + 2 * LOOK * parts
    in_(world, NEAR / 2, UDP)
    slept = world.slept
    for _ in range(100):  # it becomes faster, which is found out within this many parts
        polling.stay()
        in_(world, NEAR / 2, UDP)
    assert world.slept - slept < 50


def test_the_end_of_a_stream_is_noticed_soon() -> None:
    world = World()
    before = world.now
    assert world.polling().stay() == []
    assert world.now - before <= BREATH / 1000 + NEAR + 3 * LOOK


def test_in_a_stream_that_goes_out_it_sleeps_until_more_comes() -> None:
    world = World()
    polling = world.polling()
    in_(world, 1.0, TUN)
    polling.wait(-1)
    world.now += WORK
    in_(world, LONGEST / 2, UDP)
    assert polling.sleep() == [(UDP, 1)]
    assert (world.slept, world.looked) == (2, 0)


def test_after_the_longest_look_it_sleeps() -> None:
    world = World()
    polling = world.polling()
    in_(world, 1.0, TUN)
    polling.wait(-1)
    in_(world, 2.0, UDP)
    assert polling.wait(-1) == [(UDP, 1)]
    assert world.slept == 2
    assert world.looked == pytest.approx(LONGEST, rel=0.02)


def test_the_timeout_is_kept_while_looking() -> None:
    world = World()
    polling = world.polling()
    in_(world, 1.0, TUN)
    polling.wait(-1)
    before = world.now
    assert polling.wait(LONGEST / 3) == []
    assert world.now - before <= 2 * LONGEST / 3 + 3 * LOOK
    assert polling.wait(0.0) == []


def test_nobody_looks_before_the_first_packet_nor_after_a_timeout() -> None:
    world = World()
    polling = world.polling()
    assert polling.wait(0.5) == []
    assert polling.wait(0.5) == []
    assert world.looked == 0


def test_a_stream_is_left_to_gather() -> None:
    """Packets from one side in quick succession: those that come during a sleep are handled together."""
    world = World()
    polling = world.polling()
    in_(world, 1.0, TUN)
    polling.wait(-1)
    in_(world, 20e-6, TUN)
    polling.wait(-1)
    looked = world.looked
    for _ in range(10):
        in_(world, 20e-6, TUN)
        assert polling.wait(-1) == [(TUN, 1)]
    assert world.looked == looked
    assert world.slept == 11


def test_both_sides_at_once_or_much_work_are_no_conversation() -> None:
    world = World()
    polling = world.polling()
    in_(world, 1.0, TUN)
    in_(world, 1.0, UDP)
    assert len(polling.wait(-1)) == 2
    in_(world, 1.0, UDP)
    polling.wait(-1)
    world.now += BRIEF
    in_(world, 1.0, TUN)
    polling.wait(-1)
    assert world.looked == 0


def test_pings_that_are_far_apart_are_watched_for_each_time() -> None:
    world = World()
    polling = world.polling()
    for _ in range(20):
        in_(world, 10e-3, TUN)
        polling.wait(-1)
        world.now += WORK
        in_(world, LONGEST / 2, UDP)
        slept = world.slept
        polling.wait(-1)
        assert world.slept == slept
        world.now += WORK


@given(
    st.lists(st.tuples(st.sampled_from([TUN, UDP]), st.floats(1e-6, 2e-3), st.floats(1e-6, 140e-6)), max_size=300),
)
def test_the_budget_holds_and_no_event_is_lost(steps: list[tuple[int, float, float]]) -> None:
    world = World()
    polling = world.polling()
    began, worked, looks = world.now, 0.0, 0
    for source, gap, work in steps:
        in_(world, gap, source)
        assert polling.wait(-1) == [(source, 1)]
        looks += 1
        world.now += work
        worked += work
    spent = world.looked - LOOK * looks  # the first look is not paid for: it stands for the sleep's own
    assert spent <= PURSE + SHARE * (world.now - began) + worked + 2 * LOOK * looks
