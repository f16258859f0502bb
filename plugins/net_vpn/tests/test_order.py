"""What waits for an earlier super-packet, and when it goes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.order import MOST, Order


def test_what_waits_is_bounded() -> None:
    order = Order()
    passed = [bytes(f) for n in range(MOST + 5) for f in order.pass_on(memoryview(b"%d" % n), n + 10, 5)]
    assert passed == [b"%d" % n for n in range(5)], "the oldest goes on"
    assert len(order) == MOST
    assert [bytes(frame) for frame in order.release(None)] == [b"%d" % n for n in range(5, MOST + 5)]


@given(st.permutations(range(12)))
def test_what_waited_goes_on_in_its_order(arrival: list[int]) -> None:
    order, passed = Order(), []
    awaited = set(range(12))
    for number in arrival:
        awaited.discard(number)
        before = min(awaited, default=None)
        passed += [bytes(frame)[0] for frame in order.pass_on(memoryview(bytes([number])), number, before)]
    assert passed == list(range(12))
