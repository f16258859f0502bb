"""The search for a path's MTU, without a path."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.pathmtu import AGAIN, CEILING, FLOOR, PAUSE, SHARE, WAIT, Search


def search_on(
    carries: Callable[[int], bool], search: Search | None = None, now: float = 0.0
) -> tuple[Search, float, int]:
    """Search a path until the search rests; return it, the seconds it took, and the bytes it sent."""
    search = search or Search()
    began, sent = now, 0
    search.start(now)
    while search.due <= now:
        sizes = search.sizes_to_probe(now)
        sent += sum(sizes)
        for size in sizes:
            if carries(size):
                search.has_arrived(size)
        if sizes:
            now = search.due
    return search, now - began, sent


@given(st.integers(FLOOR, CEILING))
def test_what_the_path_carries_is_found_and_never_more(mtu: int) -> None:
    search, seconds, sent = search_on(lambda size: size <= mtu)
    assert search.found is not None
    assert mtu - mtu // SHARE <= search.found <= mtu
    assert seconds <= 10 * WAIT
    assert sent < 400_000


@pytest.mark.parametrize("mtu", [1280, 1400, 1420, 1500, 9000])
def test_usual_paths_are_found_exactly(mtu: int) -> None:
    search, seconds, sent = search_on(lambda size: size <= mtu)
    assert search.found == mtu
    if mtu in (1500, 9000):
        assert seconds <= 2 * WAIT
        assert sent < 50_000


def test_one_lost_datagram_of_each_size_changes_nothing() -> None:
    seen: set[int] = set()

    def carries(size: int) -> bool:
        if size > 1492 or size in seen:
            return size <= 1492
        seen.add(size)
        return False

    assert search_on(carries)[0].found == 1492


def test_a_dead_path_says_nothing_about_its_width() -> None:
    search, _, _ = search_on(lambda size: size <= 1400)
    search, _, _ = search_on(lambda size: False, search, now=100.0)
    assert search.found == 1400
    assert search.due == pytest.approx(100 + 2 * WAIT + PAUSE)


def test_a_path_that_has_shrunk_or_grown_is_found_out_by_the_next_search() -> None:
    search, _, _ = search_on(lambda size: size <= 1500)
    search, _, _ = search_on(lambda size: size <= 1400, search, now=100.0)
    assert search.found == 1400
    search, _, _ = search_on(lambda size: True, search, now=200.0)
    assert search.found == CEILING


def test_a_search_is_not_begun_twice_in_ten_seconds() -> None:
    search = Search()
    search.start(0.0)
    search.sizes_to_probe(0.0)
    due = search.due
    search.start(PAUSE - 1)
    assert search.due == due


def test_a_path_is_searched_again_after_ten_minutes() -> None:
    search, seconds, _ = search_on(lambda size: size <= 1500)
    assert search.due == seconds + AGAIN
    assert search.sizes_to_probe(search.due)


def test_another_path_is_another_search() -> None:
    search, _, _ = search_on(lambda size: size <= 1400)
    search.forget()
    assert search.found is None
    assert search.is_idle
