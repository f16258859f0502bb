"""The tunnel on virtual time: where a packet goes, and who may send it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.prefixes import Prefix


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(ip_network, texts))


@pytest.fixture
def send(packet: Any, packet6: Any) -> Any:
    """Make a node send a packet from one address to another, and let it arrive."""

    def send(node: Any, source: str, destination: str) -> bytes:
        made: bytes = (packet6 if ":" in source else packet)(source, destination)
        node.send(made)
        node.wire.run(0.1)
        return made

    return send


def test_ipv6_is_carried_between_the_addresses_of_two_nodes(pair: Any, send: Any) -> None:
    alice, bob = pair
    sent = send(alice, alice.ipv6, bob.ipv6)
    assert bob.arrived == [sent]
    sent = send(bob, bob.ipv6, alice.ipv6)
    assert alice.arrived == [sent]


@pytest.mark.parametrize(("source", "destination"), [("10.1.0.77", "10.1.0.2"), ("fd00::77", "fd00::2")])
def test_a_forged_source_is_dropped_over_ipv4_and_ipv6(pair: Any, send: Any, source: str, destination: str) -> None:
    alice, bob = pair
    send(alice, source, destination)
    assert not bob.arrived
    assert bob.tunnel.drops == {VpnDrop.SOURCE_MISMATCH: 1}


def test_an_ipv6_packet_for_somebody_else_is_dropped(pair: Any, packet6: Any) -> None:
    alice, bob = pair
    bob.receive(alice.knows(bob).current.seal(packet6(alice.ipv6, "fd00::99")), alice.endpoint)
    assert bob.tunnel.drops == {VpnDrop.NOT_OURS: 1}


def test_a_host_behind_a_node_is_reached_and_answers(pair: Any, send: Any) -> None:
    alice, bob = pair
    bob.forwards = ("192.168.5.0/24", "2001:db8:5::/48")
    bob.restart()
    bob.meet(alice)
    alice.meet(bob, routes=prefixes(*bob.forwards))
    bob.wire.run(2)
    for near, far in ((alice.address, "192.168.5.7"), (alice.ipv6, "2001:db8:5::7")):
        assert send(alice, near, far) in bob.arrived
        assert send(bob, far, near) in alice.arrived
    assert not alice.tunnel.drops


def test_what_comes_from_behind_a_node_is_refused_unless_its_route_is_accepted(pair: Any, send: Any) -> None:
    alice, bob = pair
    send(bob, "192.168.5.7", alice.address)
    assert alice.tunnel.drops == {VpnDrop.SOURCE_MISMATCH: 1}
    send(alice, alice.address, "192.168.5.7")
    assert alice.tunnel.drops[VpnDrop.NO_ROUTE] == 1


def test_a_node_forwards_only_to_what_it_advertises(pair: Any, send: Any) -> None:
    alice, bob = pair
    alice.meet(bob, routes=prefixes("192.168.5.0/24"))
    send(alice, alice.address, "192.168.5.7")
    assert not bob.arrived
    assert bob.tunnel.drops == {VpnDrop.NOT_OURS: 1}


def test_the_more_specific_route_wins_and_the_other_takes_over_when_it_goes(wire: Any) -> None:
    alice, bob, carol = (wire.add() for _ in range(3))
    alice.meet(bob, routes=prefixes("192.168.0.0/16"))
    alice.meet(carol, routes=prefixes("192.168.5.0/24"))
    table = alice.tunnel.table
    find = lambda text: table.find_prefix(ip_address(text).packed)  # noqa: E731
    assert find("192.168.5.7") is alice.knows(carol).peer
    assert find("192.168.6.7") is alice.knows(bob).peer
    assert find("192.169.0.1") is None
    alice.tunnel.forget_peer(carol.local.public)
    assert find("192.168.5.7") is alice.knows(bob).peer


def test_a_route_moves_to_another_peer_in_whichever_order_it_is_told(wire: Any) -> None:
    alice, bob, carol = (wire.add() for _ in range(3))
    route = prefixes("192.168.5.0/24")
    alice.meet(bob, routes=route)
    alice.meet(carol, routes=route)
    alice.meet(bob)
    assert alice.tunnel.table.find_prefix(ip_address("192.168.5.7").packed) is alice.knows(carol).peer
    alice.meet(carol)
    alice.meet(bob, routes=route)
    assert alice.tunnel.table.find_prefix(ip_address("192.168.5.7").packed) is alice.knows(bob).peer


def test_a_standby_router_may_send_but_gets_nothing(pair: Any, send: Any) -> None:
    alice, bob = pair
    alice.meet(bob, standby=prefixes("192.168.5.0/24"))
    assert send(bob, "192.168.5.7", alice.address) in alice.arrived
    send(alice, alice.address, "192.168.5.7")
    assert alice.tunnel.drops == {VpnDrop.NO_ROUTE: 1}


def test_a_router_for_everything_cannot_speak_for_another_node(pair: Any, send: Any) -> None:
    alice, bob = pair
    alice.meet(bob, routes=prefixes("0.0.0.0/0", "::/0"))
    assert send(bob, "198.51.100.1", alice.address) in alice.arrived
    for source, destination in (("10.1.0.9", alice.address), ("fd00::9", alice.ipv6), ("127.0.0.1", alice.address)):
        send(bob, source, destination)
    assert alice.tunnel.drops == {VpnDrop.SOURCE_MISMATCH: 3}
