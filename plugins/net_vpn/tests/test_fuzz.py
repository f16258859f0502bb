"""Hostile bytes in any order: nothing is raised, nothing unauthentic comes out, nothing grows without end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kairos_net_vpn import messages, rations, spec
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.messages import Ask, Configure, ForgetPeer, PeerStats, Ready, SetPeer, Stats

ONE_OF_EACH = [
    Configure(bytes(32), bytes(32), "10.1.0.7", "10.1.0.0/24", 1420),
    SetPeer(bytes(32), ("192.0.2.1:7",), ("10.1.0.8",), psk=bytes(32), keepalive=25.0),
    ForgetPeer(bytes(32)),
    Ask(),
    Ready(),
    Stats((PeerStats(bytes(32), "192.0.2.1:7", 3.5, 1, 2),), {"replayed": 2}),
]
STEPS = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 200), st.integers(0, 255), st.integers(0, 160), st.booleans()),
    max_size=40,
)
"""Which datagram that was seen, which byte of it, what is done to it, where it is cut, and whether time passes."""


def seen_on(wire: Any) -> list[bytes]:
    """Return datagrams of all four types between two nodes, the sent ones first."""
    cookie = spec.COOKIE.to_bytes(4, "little") + bytes(60)
    return [*dict.fromkeys(datagram for _, datagram, _ in wire.sent), cookie]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=STEPS)
def test_altered_datagrams_in_any_order_change_nothing_for_the_peers(wire: Any, pair: Any, steps: Any) -> None:
    alice, bob = pair
    alice.say(bob)
    wire.run(0.05)
    known, arrived = seen_on(wire), len(bob.arrived)
    for which, position, value, cut, waits in steps:
        datagram = bytearray(known[which % len(known)])
        datagram[position % len(datagram)] ^= value
        index = bob.knows(alice).current.index.to_bytes(4, "little")
        datagram[4:8] = index if value % 3 == 0 else datagram[4:8]
        bob.receive(bytes(datagram[: len(datagram) - cut % len(datagram)]), (f"203.0.113.{value}", 1 + position))
        if waits:
            wire.run(0.3)
    assert len(bob.arrived) == arrived
    assert bob.knows(alice).endpoint == alice.endpoint
    assert alice.say(bob) is not None
    wire.run(0.1)
    assert len(bob.arrived) == arrived + 1


def test_a_million_handshakes_of_strangers_leave_nothing_behind(wire: Any, pair: Any) -> None:
    _, bob = pair
    table, gate = bob.tunnel.table, bob.tunnel._handshakes._gate  # looks at what must not grow
    before = (len(table), len(table.sessions), len(table.pending))
    for number in range(20_000):
        initiation = spec.INITIATION.to_bytes(4, "little") + number.to_bytes(144, "little")
        bob.tunnel.receive(initiation, (f"203.0.{number % 250}.{number % 249}", 1), wire.now + number / 1e5)
    assert not bob.tunnel.take_outbox()
    assert (len(table), len(table.sessions), len(table.pending)) == before
    assert len(gate._rations) <= rations.MAX_HOSTS
    assert set(bob.tunnel.drops) == {VpnDrop.BAD_MAC}


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(ONE_OF_EACH), st.data())
def test_a_control_message_with_another_value_is_a_message_or_a_value_error(message: Any, data: Any) -> None:
    document = json.loads(messages.encode(message))
    field = data.draw(st.sampled_from(sorted(document)))
    document[field] = data.draw(JSON)
    try:
        decoded = messages.decode(json.dumps(document).encode())
    except ValueError:
        return
    assert messages.decode(messages.encode(decoded)) == decoded or "nan" in repr(decoded).lower()


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 200_000,
        b'{"v":1,"kind":"set","key":"AAAA","endpoints":[1],"addresses":[]}',
        b'{"v":1,"kind":"set","key":"AAAA","endpoints":"ab","addresses":[]}',
        b'{"v":1,"kind":"set","key":null,"endpoints":[],"addresses":[]}',
        b'{"v":1,"kind":"set","key":"AAAA","endpoints":[],"addresses":[],"eager":1}',
        b'{"v":1,"kind":"stats","peers":[5],"drops":{}}',
        b'{"v":1,"kind":"stats","peers":[],"drops":{"a":"b"}}',
        b'{"v":1,"kind":["set"]}',
    ],
)
def test_a_control_message_of_a_wrong_type_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match="is not a message"):
        messages.decode(line)
