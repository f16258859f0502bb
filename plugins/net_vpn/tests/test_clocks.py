"""Clocks that jump under a running tunnel: wall clocks that are set, machines that slept."""

from __future__ import annotations

from typing import Any

import pytest
from kairos_net_vpn.drops import VpnDrop

YEAR = 365 * 86400.0


def talk(wire: Any, alice: Any, bob: Any, seconds: int) -> None:
    """Let both say something each second, and count on all of it to arrive."""
    before = (len(alice.arrived), len(bob.arrived))
    for _ in range(seconds):
        alice.say(bob)
        bob.say(alice)
        wire.run(1)
    assert (len(alice.arrived), len(bob.arrived)) == (before[0] + seconds, before[1] + seconds)


@pytest.mark.parametrize("jump", [-YEAR, YEAR], ids=["back", "forth"])
@pytest.mark.parametrize("who", [0, 1])
def test_a_wall_clock_set_by_a_year_and_put_right_again_costs_no_packet(
    wire: Any, pair: Any, who: int, jump: float
) -> None:
    alice, bob = pair
    for clock in (jump, 0.0):
        pair[who].clock = clock
        handshakes = wire.count(2)
        talk(wire, alice, bob, 400)
        assert wire.count(2) >= handshakes + 3
    assert alice.tunnel.drops + bob.tunnel.drops == {}


@pytest.mark.parametrize("who", [0, 1])
def test_a_node_that_restarts_with_its_clock_a_year_back_is_in_again_at_once(wire: Any, pair: Any, who: int) -> None:
    """Its handshakes look like old ones, so the others must make them."""
    alice, bob = pair
    late = pair[who]
    wire.run(30)
    late.clock = -YEAR
    late.restart()
    late.meet(pair[1 - who])
    wire.run(1.5)
    talk(wire, alice, bob, 400)
    assert pair[1 - who].tunnel.drops.keys() <= {VpnDrop.STALE_TIMESTAMP}


def test_handshakes_that_come_again_make_a_new_one_at_most_every_few_seconds(wire: Any, pair: Any) -> None:
    alice, bob = pair
    ((number, initiation, _),) = [sent for sent in wire.sent if sent[1][0] == 1]
    receiver, sender = (bob, alice) if number == alice.number else (alice, bob)
    wire.run(30)
    before = wire.count(1)
    for _ in range(200):
        receiver.receive(initiation, ("203.0.113.66", 66))
        wire.run(0.05)
    assert wire.count(1) - before <= 3  # in ten seconds
    assert receiver.knows(sender).endpoint == sender.endpoint
    talk(wire, alice, bob, 10)


def test_a_handshake_that_comes_by_two_ways_makes_no_other(wire: Any, pair: Any) -> None:
    """A peer that got no answer sends its next try to all places where we may be."""
    alice, bob = pair
    wire.run(130)
    before, start = wire.count(1), len(wire.sent)
    for node, other in (pair, pair[::-1]):
        node.say(other)
    wire.run(wire.delay)
    ((number, initiation, _),) = [sent for sent in wire.sent[start:] if sent[1][0] == 1]
    receiver = bob if number == alice.number else alice
    receiver.receive(initiation, ("198.51.100.7", 7000))
    assert receiver.tunnel.drops == {VpnDrop.STALE_TIMESTAMP: 1}
    wire.run(10)
    assert wire.count(1) == before + 1


def test_after_an_hour_of_sleep_the_first_packet_makes_a_handshake_and_follows_it(wire: Any, pair: Any) -> None:
    alice, bob = pair
    wire.now += 3600
    assert alice.say(bob) is None
    wire.run(0.1)
    assert len(bob.arrived) == 1
    assert alice.knows(bob).current.born == pytest.approx(wire.now, abs=0.2)
    talk(wire, alice, bob, 10)


def test_keys_from_before_an_hour_of_sleep_open_nothing(wire: Any, pair: Any, packet: Any) -> None:
    alice, bob = pair
    sealed = alice.knows(bob).current.seal(packet(alice.address, bob.address))
    wire.now += 3600
    bob.receive(sealed, alice.endpoint)
    assert not bob.arrived
    assert bob.tunnel.drops.keys() <= {VpnDrop.EXPIRED, VpnDrop.UNKNOWN_INDEX}
