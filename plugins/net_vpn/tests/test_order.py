"""What waits for an earlier super-packet, and when it goes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.order import MOST, Order
from kairos_net_vpn.parts import Buffers


def test_what_waits_is_bounded() -> None:
    order, passed = Order(Buffers()), []
    for n in range(MOST + 5):
        order.hold(memoryview(b"%d" % n), n + 10, None)
        passed += [bytes(frame) for frame in order.release(5)]
    assert passed == [b"%d" % n for n in range(5)], "the oldest goes on"
    assert len(order) == MOST
    assert [bytes(frame) for frame in order.release(None)] == [b"%d" % n for n in range(5, MOST + 5)]


@given(st.permutations(range(12)))
def test_what_waited_goes_on_in_its_order(arrival: list[int]) -> None:
    order, passed = Order(Buffers()), []
    awaited = set(range(12))
    for number in arrival:
        awaited.discard(number)
        order.hold(memoryview(bytes([number])), number, None)
        passed += [bytes(frame)[0] for frame in order.release(min(awaited, default=None))]
    assert passed == list(range(12))


def test_what_came_first_of_one_number_goes_on_first() -> None:
    """A record may fall into several frames."""
    order = Order(Buffers())
    for frame in (b"2", b"1", b"3"):
        order.hold(memoryview(frame), 7, None)
    assert [bytes(frame) for frame in order.release(None)] == [b"2", b"1", b"3"]


def test_a_buffer_goes_back_once_its_frame_has_gone_on() -> None:
    buffers = Buffers()
    order, (one, other) = Order(buffers), (buffers.take(), buffers.take())
    for number, buffer in ((1, one), (2, other)):
        order.hold(buffer.octets[:4], number, buffer)
    assert not {id(buffers.take())} & {id(one), id(other)}
    assert len(list(order.release(2))) == 1
    assert buffers.take() is one
    assert buffers.take() is not other
