"""Ways to peers on virtual time: relays, their death, the direct way back. The real packet path on a wire in memory."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from kairos_net_vpn import sides
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.path import PING_RATE, Via
from kairos_net_vpn.paths import ROUNDS
from kairos_net_vpn.sides import Tale

sys.path.insert(0, str(Path(__file__).parent))
meshes: Any = import_module("meshes")


@pytest.fixture
def mesh(wire: Any, packet: Any) -> Any:
    made: list[Any] = []

    def make(count: int = 3) -> Any:
        made.append(meshes.Mesh(wire, packet, count))
        return made[0]

    yield make
    for host in made[0].hosts:
        host.reader.close()
        host.writer.close()


def test_two_nodes_behind_a_wall_talk_through_the_third(mesh: Any) -> None:
    net = mesh()
    alice, bob, carol = net.hosts
    net.part(alice, bob)
    net.meet()
    net.wire.run(3)
    via = Via(carol.node.local.public, bob.node.local.public)
    assert net.talks(alice, bob)
    assert net.talks(bob, alice)
    assert alice.way_to(bob) == via
    assert carol.heard() == 0  # what she passes on is not for her, and she cannot read it


def test_the_direct_way_is_taken_within_five_seconds_of_its_opening(mesh: Any) -> None:
    net = mesh()
    alice, bob, _ = net.hosts
    net.part(alice, bob)
    net.meet()
    net.wire.run(3)
    assert net.talks(alice, bob)
    net.open()
    assert net.talks(alice, bob, 4)
    assert alice.way_to(bob) == bob.node.endpoint
    assert bob.way_to(alice) == alice.node.endpoint
    assert net.talks(bob, alice, 30)  # and stays
    assert alice.way_to(bob) == bob.node.endpoint


def test_a_wall_that_goes_up_later_is_walked_around_within_four_seconds(mesh: Any) -> None:
    net = mesh()
    alice, bob, _ = net.hosts
    net.meet()
    assert net.talks(alice, bob)
    net.part(alice, bob)
    assert net.talks(alice, bob, 3)
    assert type(alice.way_to(bob)) is Via


@pytest.mark.parametrize("wall", [(1, 2), (2, 1)])
def test_a_wall_in_one_direction_only_is_walked_around_too(mesh: Any, wall: tuple[int, int]) -> None:
    net = mesh()
    alice, bob, _ = net.hosts
    net.meet()
    assert net.talks(alice, bob)
    net.walls = {wall}
    assert net.talks(alice, bob, 6)
    assert net.talks(bob, alice, 6)
    assert net.talks(alice, bob, 6)


def test_a_relay_that_dies_is_replaced_within_four_seconds(mesh: Any) -> None:
    net = mesh(4)
    alice, bob, carol, dave = net.hosts
    net.part(alice, bob)
    net.meet()
    net.wire.run(3)
    assert net.talks(alice, bob)
    relay = alice.way_to(bob).relay
    (first,) = (host for host in (carol, dave) if host.node.local.public == relay)
    net.dead.add(first.node.number)
    assert net.talks(alice, bob, 3)
    assert alice.way_to(bob).relay != relay


def test_who_is_gone_is_asked_for_less_and_less_and_again_with_new_data(mesh: Any) -> None:
    net = mesh(2)
    alice, bob = net.hosts
    net.meet()
    assert net.talks(alice, bob)
    assert net.talks(bob, alice)
    alice.say(bob, net._packet(alice.node.address, bob.node.address))
    bob.say(alice, net._packet(bob.node.address, alice.node.address))
    net.wire.run(0.1)
    net.dead.add(bob.node.number)
    path = alice.node.knows(bob.node).peer.path

    def asked_in(seconds: float) -> int:
        """Return how often she asks for him meanwhile, beside the search for the path MTU."""
        began = net.wire.now
        net.wire.run(seconds)
        return sum(asked.at > began and not asked.size for asked in path.asked.values())

    alice.say(bob, net._packet(alice.node.address, bob.node.address))
    assert asked_in(1.4) == 0
    assert asked_in(8.6) == ROUNDS  # after one and a half seconds, and then twice a second
    assert asked_in(20) == 0
    alice.say(bob, net._packet(alice.node.address, bob.node.address))
    assert asked_in(1.4) == 0
    assert asked_in(10) == 1
    net.dead.clear()
    assert net.talks(alice, bob, 3)
    assert path.rounds == 0


def test_a_session_is_renewed_through_the_relay(mesh: Any) -> None:
    net = mesh()
    alice, bob, _ = net.hosts
    net.part(alice, bob)
    net.meet()
    net.wire.run(3)
    assert net.talks(alice, bob)
    before = alice.node.knows(bob.node).current
    assert net.talks(alice, bob, 200)
    assert alice.node.knows(bob.node).current is not before


@pytest.mark.parametrize("mtu", [1280, 1400, 1500, 9000])
def test_the_size_of_datagrams_follows_the_path(mesh: Any, mtu: int) -> None:
    net = mesh(2)
    net.wire.mtu = mtu - 20  # the endpoints count as IPv6, whose header is 20 bytes longer than what Port adds
    alice, bob = net.hosts
    net.meet()
    net.wire.run(2)
    assert net.talks(alice, bob, 6)
    peer = alice.node.knows(bob.node).peer
    assert peer.path.mtu.found == mtu
    assert peer.datagram == (mtu - 48) // 8 * 8


def test_an_idle_pair_sends_nothing_though_its_path_could_be_probed(mesh: Any) -> None:
    net = mesh(2)
    net.meet()
    net.wire.run(2)
    before = len(net.wire.sent)
    net.wire.run(60)
    assert len(net.wire.sent) == before


def test_an_idle_relayed_pair_looks_for_the_direct_way_less_and_less(mesh: Any) -> None:
    net = mesh()
    alice, bob, _ = net.hosts
    net.part(alice, bob)
    net.meet()
    net.wire.run(3)
    net.talks(alice, bob)
    net.wire.run(70)
    before = len(net.wire.sent)
    net.wire.run(30)
    assert len(net.wire.sent) - before <= 2 * 2 * 2  # each side asks twice, and finds a wall
    net.open()
    net.wire.run(16)
    assert alice.way_to(bob) == bob.node.endpoint


def test_a_node_learns_where_others_see_it(mesh: Any) -> None:
    net = mesh()
    alice, bob, carol = net.hosts
    net.meet()
    net.wire.run(3)
    assert net.talks(alice, bob, 3)
    assert net.talks(alice, carol, 3)
    assert alice.node.tunnel.paths.seen_at() == ("192.0.2.1:7000",)


def test_one_liar_among_several_peers_is_not_heard(mesh: Any) -> None:
    paths = mesh(1).hosts[0].node.tunnel.paths
    paths.reflexive = {b"liar": "198.51.100.9:53"}
    assert paths.seen_at() == ("198.51.100.9:53",)  # nobody knows better
    paths.reflexive |= {b"a": "203.0.113.5:1", b"b": "203.0.113.5:1", b"c": ""}
    assert paths.seen_at() == ("203.0.113.5:1",)
    paths.forget(b"a")
    assert paths.seen_at() == ()


# -- hostile


def met(mesh: Any, count: int = 3) -> Any:
    net = mesh(count)
    net.meet()
    net.wire.run(3)
    return net


def side(net: Any, one: Any, other: Any, plain: bytes) -> None:
    """Have one send the other a side message directly."""
    session = one.node.knows(other.node).current
    for datagram in session.sealer.seal_side(plain, 1400):
        net.wire.carry(one.node, bytes(datagram), other.node.endpoint)
    net.wire.run(0.1)


def test_nothing_is_relayed_to_whom_we_do_not_reach_or_back_to_the_sender(mesh: Any) -> None:
    net = met(mesh)
    alice, _, carol = net.hosts
    for key in (bytes(32), alice.node.local.public, carol.node.local.public):
        side(net, alice, carol, sides.encode_tale(sides.RELAY, Tale(key, 100, bytes(100))))
    assert carol.drops(VpnDrop.RELAY_REFUSED) == 3


def test_nothing_is_relayed_to_a_stock_peer(mesh: Any) -> None:
    net = met(mesh)
    alice, bob, carol = net.hosts
    carol.node.meet(bob.node, records=False)
    side(net, alice, carol, sides.encode_tale(sides.RELAY, Tale(bob.node.local.public, 100, bytes(100))))
    assert carol.drops(VpnDrop.RELAY_REFUSED) == 1


def test_a_relayed_datagram_cannot_ask_to_be_relayed(mesh: Any) -> None:
    net = met(mesh)
    alice, bob, carol = net.hosts
    inner = alice.node.knows(bob.node).current.sealer.seal_side(
        sides.encode_tale(sides.RELAY, Tale(carol.node.local.public, 100, bytes(100))), 1400
    )
    wire = b"".join(inner)
    side(net, alice, carol, sides.encode_tale(sides.RELAY, Tale(bob.node.local.public, len(wire), wire)))
    assert bob.drops(VpnDrop.RELAY_LOOP) == 1
    assert not carol.node.tunnel.drops  # nobody sent it on


def test_a_relay_cannot_say_that_a_datagram_is_from_somebody_else(mesh: Any) -> None:
    net = met(mesh, 4)
    alice, bob, carol, dave = net.hosts
    sealed = b"".join(alice.node.knows(bob.node).current.sealer.seal_side(sides.encode_ping(bytes(8)), 1400))
    side(net, carol, bob, sides.encode_tale(sides.RELAYED, Tale(dave.node.local.public, len(sealed), sealed)))
    assert bob.drops(VpnDrop.RELAY_FORGED) == 1
    side(net, carol, bob, sides.encode_tale(sides.RELAYED, Tale(carol.node.local.public, len(sealed), sealed)))
    side(net, carol, bob, sides.encode_tale(sides.RELAYED, Tale(bytes(32), len(sealed), sealed)))
    assert bob.drops(VpnDrop.RELAY_FORGED) == 3
    assert bob.way_to(alice) == alice.node.endpoint


def test_a_relay_replays_or_alters_in_vain(mesh: Any, packet: Any) -> None:
    net = met(mesh)
    alice, bob, carol = net.hosts
    alice.say(bob, packet(alice.node.address, bob.node.address))
    record = next(datagram for number, datagram, _ in reversed(net.wire.sent) if number == 1)
    net.wire.run(1)
    altered = record[:-1] + bytes([record[-1] ^ 1])
    for wire in (record, altered):
        side(net, carol, bob, sides.encode_tale(sides.RELAYED, Tale(alice.node.local.public, len(wire), wire)))
    assert bob.heard() == 1
    assert bob.drops(VpnDrop.REPLAYED) == 2  # an altered tag on a counter that was used


def test_pings_are_answered_up_to_a_bound(mesh: Any) -> None:
    net = met(mesh, 2)
    alice, bob = net.hosts
    session = alice.node.knows(bob.node).current
    for number in range(int(PING_RATE) * 3):
        (datagram,) = session.sealer.seal_side(sides.encode_ping(number.to_bytes(8)), 1400)
        bob.receive(bytes(datagram), alice.node.endpoint)
    assert bob.drops(VpnDrop.PROBE_FLOOD) >= 2 * PING_RATE - 1


def test_an_answer_that_nobody_waits_for_changes_nothing(mesh: Any) -> None:
    net = met(mesh, 2)
    alice, bob = net.hosts
    side(net, alice, bob, sides.encode_pong(bytes(8), "192.0.2.1:1"))
    assert bob.drops(VpnDrop.UNASKED) == 1


@pytest.mark.parametrize(
    "plain", [b"", b"\0", b"\5" * 100, b"\1", b"\1" * 20, b"\2", b"\2" * 200, b"\3" * 34, b"\4" * 40]
)
def test_malformed_side_messages_are_counted(mesh: Any, plain: bytes) -> None:
    net = met(mesh, 2)
    alice, bob = net.hosts
    side(net, alice, bob, plain)
    assert bob.drops(VpnDrop.MALFORMED) == 1
