"""What comes of a group, in any order and pieces, lies where it belongs."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.parts import MAX_GROUP, SPARE, Buffers, Parts


@pytest.fixture
def parts() -> Callable[[int], Parts]:
    return lambda members: Parts(members, 7, 0, is_super=True, buffer=memoryview(bytearray(MAX_GROUP)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_members_in_any_order_and_pieces_make_the_group(data: st.DataObject) -> None:
    members, chunk = data.draw(st.integers(2, 64)), data.draw(st.integers(1, 1000))
    whole = data.draw(st.randoms()).randbytes((members - 1) * chunk + data.draw(st.integers(1, chunk)))
    cuts = sorted({0, members, *data.draw(st.lists(st.integers(1, members - 1), max_size=8))})
    pieces = data.draw(st.permutations(list(itertools.pairwise(cuts))))
    parts = Parts(members, 7, 0, is_super=True, buffer=memoryview(bytearray(b"?" * MAX_GROUP)))
    for begin, end in pieces:
        assert not parts.is_whole
        assert not parts.has_any(begin, end - begin)
        sealed = memoryview(whole[begin * chunk : end * chunk])
        parts.put(begin, end - begin, sealed, chunk if end - begin > 1 else len(sealed))
        assert parts.has_any(begin, end - begin)
    assert parts.is_whole
    assert bytes(parts.sealed()) == whole


def test_it_says_what_is_missing(parts: Callable[[int], Parts]) -> None:
    some = parts(6)
    some.put(1, 2, memoryview(bytes(20)), 10)
    some.put(4, 1, memoryview(bytes(10)), 10)
    assert some.missing(is_passed=False) == [0, 3]
    assert some.missing(is_passed=True) == [0, 3, 5]
    assert len(some) == 3


@pytest.mark.parametrize(
    ("first", "count", "size", "chunk"),
    [
        (1, 1, 11, 11),  # of another size than the member before
        (1, 2, 19, 10),  # shorter than its members
        (2, 2, 30, 10),  # longer
        (1, 3, 70000, 30000),  # more than any group has
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    parts: Callable[[int], Parts], first: int, count: int, size: int, chunk: int
) -> None:
    some = parts(5)
    some.put(0, 1, memoryview(b"x" * 10), 10)
    with pytest.raises(Refused) as refused:
        some.put(first, count, memoryview(bytes(size)), chunk)
    assert refused.value.drop == VpnDrop.MALFORMED
    some.put(1, 4, memoryview(b"y" * 33), 10)
    assert bytes(some.sealed()) == b"x" * 10 + b"y" * 33


def test_a_last_member_that_is_too_long_is_refused(parts: Callable[[int], Parts]) -> None:
    some = parts(2)
    some.put(1, 1, memoryview(bytes(40000)), 40000)
    some.put(0, 1, memoryview(bytes(40000)), 40000)
    with pytest.raises(Refused):
        some.sealed()


def test_buffers_are_used_again_but_few_are_kept() -> None:
    buffers = Buffers()
    taken = [buffers.take() for _ in range(2 * SPARE)]
    for buffer in taken:
        buffers.give_back(buffer)
    again = [buffers.take() for _ in range(2 * SPARE)]
    assert sum(any(buffer is other for other in taken) for buffer in again) == SPARE
