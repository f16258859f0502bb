"""The tunnel on virtual time: what it refuses, by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kairos_net_vpn import spec
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.tunnel import PeerState


def test_a_packet_from_an_address_of_somebody_else_is_dropped(wire: Any, pair: Any, packet: Any) -> None:
    alice, bob = pair
    alice.send(packet("10.1.0.77", bob.address))
    wire.run(0.1)
    assert not bob.arrived
    assert bob.tunnel.drops == {VpnDrop.SOURCE_MISMATCH: 1}
    assert bob.knows(alice).peer.refused == 1


def test_a_packet_for_somebody_else_is_dropped(wire: Any, pair: Any, packet: Any) -> None:
    alice, bob = pair
    session = alice.knows(bob).current
    bob.receive(session.seal(packet(alice.address, "10.1.0.99")), alice.endpoint)
    assert bob.tunnel.drops == {VpnDrop.NOT_OURS: 1}


@pytest.mark.parametrize(
    ("inner", "drop"),
    [
        (b"\x60" + bytes(60), VpnDrop.SOURCE_MISMATCH),  # of ::, which nobody owns
        (b"\x60" + bytes(20), VpnDrop.NOT_IP),  # shorter than an IPv6 header
        (b"\x10" + bytes(60), VpnDrop.NOT_IP),
        (b"\x45\0\0\x10" + bytes(60), VpnDrop.NOT_IP),  # shorter than a header
        (b"\x45\0\xff\xff" + bytes(60), VpnDrop.NOT_IP),  # longer than what came
    ],
    ids=["ipv6", "short ipv6", "version 1", "too short", "too long"],
)
def test_authentic_nonsense_is_dropped_by_name(pair: Any, inner: bytes, drop: VpnDrop) -> None:
    alice, bob = pair
    bob.receive(alice.knows(bob).current.seal(inner), alice.endpoint)
    assert bob.tunnel.drops == {drop: 1}


def test_what_this_machine_sends_astray_is_dropped_by_name(pair: Any, packet: Any) -> None:
    alice, _ = pair
    alice.send(packet(alice.address, "10.1.0.99"))
    alice.send(b"\x60" + bytes(40))
    alice.send(b"\x45")
    alice.send(b"")
    alice.send(b"\x60" + bytes(38))
    assert alice.tunnel.drops == {VpnDrop.NO_ROUTE: 2, VpnDrop.NOT_IP: 3}


def test_a_peer_without_an_underlay_address_is_named(wire: Any, packet: Any) -> None:
    alice, bob = wire.add(), wire.add()
    owned = frozenset({bytes([10, 1, 0, 2])})
    alice.tunnel.set_peer(PeerState(bob.local.public, (), owned, is_eager=True), wire.now)
    alice.say(bob)
    assert alice.tunnel.drops == {VpnDrop.NO_ENDPOINT: 1}


def test_a_replayed_datagram_is_dropped_and_moves_nobody(wire: Any, pair: Any) -> None:
    alice, bob = pair
    datagram = alice.say(bob)
    wire.run(0.1)
    bob.receive(datagram, ("203.0.113.66", 66))
    assert len(bob.arrived) == 1
    assert bob.tunnel.drops == {VpnDrop.REPLAYED: 1}
    assert bob.knows(alice).endpoint == alice.endpoint


def test_a_replayed_initiation_is_dropped_also_when_the_clock_stood_still(wire: Any, pair: Any) -> None:
    alice, bob = pair
    ((number, initiation, _),) = [sent for sent in wire.sent if sent[1][0] == spec.INITIATION]
    receiver = bob if number == alice.number else alice
    wire.run(5)
    receiver.receive(initiation, ("203.0.113.66", 66))
    assert receiver.tunnel.drops == {VpnDrop.STALE_TIMESTAMP: 1}


def test_an_old_initiation_replayed_to_a_restarted_node_steals_no_traffic(wire: Any, pair: Any) -> None:
    alice, bob = pair
    ((number, initiation, _),) = [sent for sent in wire.sent if sent[1][0] == spec.INITIATION]
    sender, receiver = (alice, bob) if number == alice.number else (bob, alice)
    receiver.restart()
    receiver.meet(sender)
    receiver.receive(initiation, ("203.0.113.66", 66))
    assert receiver.knows(sender).endpoint is None
    wire.run(2)
    assert receiver.knows(sender).endpoint == sender.endpoint
    assert receiver.say(sender) is not None


def test_handshakes_of_one_peer_too_close_together_are_dropped(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    bob.meet(alice, is_eager=False)
    for _ in range(3):
        alice.restart()
        wire.now += 0.001
        alice.meet(bob, is_eager=False)
        alice.say(bob)
    wire.run(0.02)
    assert bob.tunnel.drops[VpnDrop.FLOODED] == 2


def test_a_stranger_with_another_token_gets_nothing(wire: Any, packet: Any) -> None:
    alice, eve = wire.add(), wire.add(psk=bytes(32))
    alice.meet(eve)
    eve.meet(alice)
    alice.say(eve)
    eve.say(alice)
    wire.run(60)
    assert not alice.arrived + eve.arrived
    assert alice.knows(eve).current is None
    assert eve.knows(alice).current is None
    assert alice.tunnel.drops[VpnDrop.UNSEAL] + eve.tunnel.drops[VpnDrop.UNSEAL] > 0


def test_a_datagram_out_of_the_tunnel_itself_is_not_followed(wire: Any, pair: Any, packet: Any) -> None:
    alice, bob = pair
    inside = ("10.1.0.1", 7000)
    datagram = alice.knows(bob).current.seal(packet(alice.address, bob.address))
    bob.receive(datagram, inside)
    bob.receive(b"\x01\0\0\0" + bytes(144), inside)
    assert bob.tunnel.drops == {VpnDrop.LOOPED: 2}
    assert bob.knows(alice).endpoint == alice.endpoint


def test_a_public_key_without_a_secret_is_refused(wire: Any) -> None:
    alice = wire.add()
    with pytest.raises(Refused):
        alice.tunnel.set_peer(PeerState(bytes(32), (), frozenset(), is_eager=True), wire.now)


def test_an_address_that_changes_hands_belongs_to_the_last(wire: Any, pair: Any, packet: Any) -> None:
    alice, bob = pair
    carol = wire.add()
    carol.address = bob.address
    alice.meet(carol)
    destination = packet(alice.address, "10.1.0.2")
    assert alice.tunnel.table.find_route(destination) is alice.knows(carol).peer
    bob.send(packet("10.1.0.2", alice.address))
    wire.run(0.1)
    assert alice.tunnel.drops[VpnDrop.SOURCE_MISMATCH] == 1


def test_a_forgotten_peer_leaves_nothing(wire: Any, pair: Any, packet: Any) -> None:
    alice, bob = pair
    alice.tunnel.forget_peer(bob.local.public)
    alice.tunnel.forget_peer(bob.local.public)
    table = alice.tunnel.table
    assert (len(table), table.sessions, table.pending) == (0, {}, {})
    assert table.find_route(packet(alice.address, bob.address)) is None
    alice.tunnel.handle_timer(wire.now)
    assert alice.tunnel.wake == float("inf")


def test_padding_hides_lengths_but_never_exceeds_the_mtu(pair: Any) -> None:
    alice, bob = pair
    sizes = {len(alice.knows(bob).current.seal(bytes(size))) for size in range(1, 17)}
    assert sizes == {16 + spec.TRANSPORT_OVERHEAD}
    assert len(alice.knows(bob).current.seal(bytes(1420))) == 1420 + spec.TRANSPORT_OVERHEAD


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), kind=st.integers(0, 5))
def test_random_datagrams_are_dropped_by_name_and_change_nothing(pair: Any, data: bytes, kind: int) -> None:
    alice, bob = pair
    before, session = bob.tunnel.drops.total(), bob.knows(alice).current
    bob.receive(bytes([kind, 0, 0, 0]) + data, ("203.0.113.66", 66))
    bob.receive(data, ("203.0.113.66", 66))
    assert bob.tunnel.drops.total() == before + 2
    assert bob.knows(alice).current is session
    assert bob.knows(alice).endpoint == alice.endpoint


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10_000), mask=st.integers(1, 255), cut=st.integers(0, 60))
def test_no_altered_or_cut_datagram_is_taken(pair: Any, position: int, mask: int, cut: int) -> None:
    alice, bob = pair
    datagram = bytearray(alice.knows(bob).current.seal(b"\x45" + bytes(50)))
    datagram[position % len(datagram)] ^= mask
    before = bob.tunnel.drops.total()
    bob.receive(bytes(datagram[: len(datagram) - cut]), alice.endpoint)
    assert bob.tunnel.drops.total() == before + 1
    assert not bob.arrived
