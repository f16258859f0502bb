"""The replay window, against a model that remembers everything."""

from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.replay import WINDOW, ReplayWindow

near = st.lists(st.integers(0, 3 * WINDOW), max_size=200)
jumps = st.lists(st.one_of(st.integers(0, 300), st.integers(0, (1 << 64) - 1)), max_size=200)


def run(counters: list[int]) -> None:
    window, seen, highest = ReplayWindow(), set[int](), -1
    for counter in counters:
        expected = counter not in seen and counter + WINDOW > highest
        assert window.is_fresh(counter) == expected
        if expected:
            window.accept(counter)
            seen.add(counter)
            highest = max(highest, counter)


@given(near)
def test_each_counter_is_accepted_once_in_any_order_within_the_window(counters: list[int]) -> None:
    run(counters)


@given(jumps)
def test_jumps_over_many_windows_forget_nothing_that_counts(counters: list[int]) -> None:
    run(counters)


@given(st.integers(0, 10 * WINDOW), st.permutations(range(64)))
def test_reordering_of_neighbours_loses_nothing(start: int, order: list[int]) -> None:
    window = ReplayWindow()
    for offset in order:
        assert window.is_fresh(start + offset)
        window.accept(start + offset)
    assert not any(window.is_fresh(start + offset) for offset in order)


def test_asking_changes_nothing() -> None:
    window = ReplayWindow()
    assert window.is_fresh(5)
    assert window.is_fresh(5)


def test_a_jump_of_whole_rings_leaves_no_bit_of_before() -> None:
    for rings in (1, 2, 3):
        window = ReplayWindow()
        for counter in range(64):
            window.accept(counter)
        highest = rings * (WINDOW + 64) + 63
        window.accept(highest)
        assert all(window.is_fresh(highest - behind) for behind in range(1, WINDOW))


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=20))
def test_accepting_many_at_once_is_accepting_each(spans: list[tuple[int, int]]) -> None:
    one, other = ReplayWindow(), ReplayWindow()
    for first, count in spans:
        one.accept_all(first, count)
        for counter in range(first, first + count):
            other.accept(counter)
        assert all(one.is_fresh(at) == other.is_fresh(at) for at in range(max(0, first - 300), first + count + 300))
