"""What comes of a group, in any order and pieces, lies where it belongs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_net_vpn.datagrams import HEADER_SIZE, Buffer, Received
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.parts import MAX_GROUP, MOST_HELD, SPARE, Buffers, Parts, Piece


@pytest.fixture
def parts() -> Callable[[int], Parts]:
    return lambda members: Parts(b"", members, 7, 0, Buffer(MOST_HELD))


def whole_of(parts: Parts) -> bytes:
    parts.close()
    return bytes(parts.buffer.octets[: parts.length])


def draw_group(data: st.DataObject) -> tuple[int, int, bytes]:
    """Return how many members a group has, how many bytes each but the last, and all of it."""
    members = data.draw(st.integers(2, 64))
    size = 8 * data.draw(st.integers(2 * members, 129))
    return members, size, Random(members).randbytes((members - 1) * size + data.draw(st.integers(1, size)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_members_in_any_order_and_pieces_make_the_group(data: st.DataObject) -> None:
    members, size, whole = draw_group(data)
    cuts = sorted({0, members, *data.draw(st.lists(st.integers(1, members - 1), max_size=8))})
    pieces = data.draw(st.permutations(list(itertools.pairwise(cuts))))
    parts = Parts(b"", members, 7, 0, Buffer(MOST_HELD))
    for begin, end in pieces:
        assert not parts.is_whole
        assert not parts.has_any(begin, end - begin)
        wire = memoryview(whole[begin * size : end * size])
        parts.put(begin, end - begin, wire, size if end - begin > 1 else len(wire))
        assert parts.has_any(begin, end - begin)
    assert parts.is_whole
    assert whole_of(parts) == whole


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_members_that_come_in_receives_with_gaps_make_the_group(data: st.DataObject) -> None:
    members, size, whole = draw_group(data)
    place_of = data.draw(st.lists(st.integers(0, 3), min_size=members, max_size=members))
    datagrams = [whole[at : at + size] for at in range(0, len(whole), size)]
    parts, came = Parts(b"", members, 7, 0, Buffer(MOST_HELD)), set[int]()
    for place in data.draw(st.permutations(sorted(set(place_of)))):
        these = [member for member in range(members) if place_of[member] == place]
        piece = Piece(b"", 7, bytes(these), members, size)
        assert not parts.is_whole
        if parts.can_take(piece):
            parts.take(piece, Received.copy(b"".join(datagrams[member] for member in these), size))
        else:
            assert came & set(range(these[0], these[-1])) or members - 1 in came, "between these, or the last alone"
            for member in these:
                parts.put(member, 1, memoryview(datagrams[member]), len(datagrams[member]))
        came.update(these)
        assert parts.missing(is_passed=True) == sorted(set(range(members)) - came)
        assert len(parts) == len(came)
        assert parts.is_front == (came == set(range(len(came))))
    assert parts.is_whole
    assert whole_of(parts) == whole


def test_it_says_what_is_missing(parts: Callable[[int], Parts]) -> None:
    some = parts(6)
    some.put(1, 2, memoryview(bytes(208)), 104)
    some.put(4, 1, memoryview(bytes(104)), 104)
    assert some.missing(is_passed=False) == [0, 3]
    assert some.missing(is_passed=True) == [0, 3, 5]
    assert len(some) == 3


@pytest.mark.parametrize(
    ("first", "count", "length", "size"),
    [
        (1, 1, 96, 96),  # of another size than the member before
        (1, 2, 207, 104),  # shorter than its members
        (2, 2, 312, 104),  # longer
        (1, 3, 90000, 30000),  # more than any group has
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    parts: Callable[[int], Parts], first: int, count: int, length: int, size: int
) -> None:
    some = parts(5)
    some.put(0, 1, memoryview(b"x" * 104), 104)
    with pytest.raises(Refused) as refused:
        some.put(first, count, memoryview(bytes(length)), size)
    assert refused.value.drop == VpnDrop.MALFORMED
    some.put(1, 4, memoryview(b"y" * 333), 104)
    assert whole_of(some) == b"x" * 104 + b"y" * 333


@pytest.mark.parametrize("size", [HEADER_SIZE * 5 - 8, 100, 101, 30000])
def test_sizes_in_which_no_headers_can_lie_over_the_group_are_refused(parts: Callable[[int], Parts], size: int) -> None:
    some = parts(5)
    with pytest.raises(Refused) as refused:
        some.put(0, 1, memoryview(bytes(size)), size)
    assert refused.value.drop == VpnDrop.MALFORMED
    assert not some


def test_a_last_member_that_is_too_long_is_refused(parts: Callable[[int], Parts]) -> None:
    some = parts(2)
    some.put(1, 1, memoryview(bytes(MAX_GROUP - 40000 + 2 * HEADER_SIZE + 1)), 40000)
    some.put(0, 1, memoryview(bytes(40000)), 40000)
    with pytest.raises(Refused):
        some.close()


def test_buffers_are_used_again_but_few_are_kept() -> None:
    buffers = Buffers()
    taken = [buffers.take() for _ in range(2 * SPARE)]
    for buffer in taken:
        buffers.give_back(buffer)
    again = [buffers.take() for _ in range(2 * SPARE)]
    assert sum(any(buffer is other for other in taken) for buffer in again) == SPARE
