"""The tunnel on virtual time: how a mesh comes up and stays up."""

from __future__ import annotations

from typing import Any

from kairos_net_vpn import spec
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.spec import Timing

# -- coming up


def test_nodes_that_know_each_other_have_a_session_before_the_first_packet(wire: Any, pair: Any) -> None:
    alice, bob = pair
    assert alice.say(bob) is not None
    assert bob.say(alice, b"answer") is not None
    wire.run(0.1)
    assert [packet[20:] for packet in bob.arrived] == [b"payload"]
    assert [packet[20:] for packet in alice.arrived] == [b"answer"]
    assert not alice.tunnel.drops
    assert not bob.tunnel.drops


def test_one_handshake_is_enough_for_a_pair(wire: Any, pair: Any) -> None:
    assert (wire.count(spec.INITIATION), wire.count(spec.RESPONSE)) == (1, 1)


def test_the_higher_key_goes_first_when_the_lower_cannot_reach_it(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    lower = min(alice, bob, key=lambda node: node.local.public)
    wire.lose = lambda sender, datagram: sender is lower and datagram[0] == spec.INITIATION
    alice.meet(bob)
    bob.meet(alice)
    wire.run(2)
    assert alice.say(bob) is not None
    assert bob.say(alice) is not None


def test_a_peer_that_learns_of_us_late_is_reached_within_two_seconds(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    alice.meet(bob)
    wire.run(5)
    bob.meet(alice)
    wire.run(2)
    assert bob.say(alice) is not None
    assert bob.tunnel.drops[VpnDrop.UNKNOWN_PEER] >= 1


def test_the_packet_that_starts_a_handshake_arrives_and_only_one_waits(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    alice.meet(bob, is_eager=False)
    bob.meet(alice, is_eager=False)
    assert alice.say(bob, b"first") is None
    assert alice.say(bob, b"second") is None
    wire.run(0.1)
    assert [packet[20:] for packet in bob.arrived] == [b"second"]
    assert alice.tunnel.drops == {VpnDrop.NO_SESSION: 1}


def test_both_sides_initiating_at_once_end_with_a_working_pair(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    for one, other in ((alice, bob), (bob, alice)):
        one.meet(other, is_eager=False)
    alice.say(bob, b"a")
    bob.say(alice, b"b")
    wire.run(0.1)
    for _ in range(3):
        assert alice.say(bob, b"a") is not None
        assert bob.say(alice, b"b") is not None
        wire.run(0.1)
    assert len(alice.arrived) == len(bob.arrived) == 4
    assert VpnDrop.UNKNOWN_INDEX not in alice.tunnel.drops + bob.tunnel.drops


def test_a_mesh_comes_up_through_loss(wire: Any) -> None:
    nodes = [wire.add() for _ in range(5)]
    wire.lose = lambda sender, datagram: wire.random.random() < 0.3
    for one in nodes:
        for other in nodes:
            if one is not other:
                one.meet(other)
    wire.run(20)
    wire.lose = lambda sender, datagram: False
    pairs = [(one, other) for one in nodes for other in nodes if one is not other]
    for one, other in pairs:
        one.say(other)
    wire.run(20)
    assert sum(len(node.arrived) for node in nodes) == len(pairs)


def test_initiations_slow_down_and_end_when_nobody_answers(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    alice.meet(bob, is_eager=False)
    alice.say(bob)
    wire.run(1000)
    assert 10 <= wire.count(spec.INITIATION) <= 25
    assert alice.tunnel.drops[VpnDrop.NO_SESSION] == 1
    assert not alice.tunnel.table.pending


def test_towards_a_living_peer_initiations_never_end_but_are_rare(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    alice.meet(bob)
    wire.run(1000)
    before = wire.count(spec.INITIATION)
    wire.run(300)
    assert 8 <= wire.count(spec.INITIATION) - before <= 10


# -- staying up


def converse(wire: Any, pair: Any, times: int, pause: float) -> None:
    """Let one say something and the other answer, with as many seconds after each."""
    alice, bob = pair
    for _ in range(times):
        alice.say(bob)
        wire.run(pause)
        bob.say(alice)
        wire.run(pause)


def test_a_session_is_renewed_while_it_is_used_and_no_packet_is_lost(wire: Any, pair: Any) -> None:
    alice, bob = pair
    converse(wire, pair, 600, 0.5)
    assert len(bob.arrived) == len(alice.arrived) == 600
    assert 5 <= wire.count(spec.INITIATION) <= 7  # 600 s: once in 120 s
    assert not alice.tunnel.drops + bob.tunnel.drops


def test_a_session_is_renewed_when_the_initiator_only_listens(wire: Any, pair: Any) -> None:
    alice, bob = pair
    initiator, other = (alice, bob) if alice.knows(bob).current.is_initiator else (bob, alice)
    for _ in range(400):
        assert other.say(initiator) is not None  # never without a session, so never delayed
        wire.run(1)
    assert len(initiator.arrived) == 400


def test_an_idle_pair_is_silent_and_forgets_its_keys(wire: Any, pair: Any) -> None:
    alice, bob = pair
    before = len(wire.sent)
    wire.run(1000)
    assert len(wire.sent) == before
    assert not alice.tunnel.table.sessions
    assert not bob.tunnel.table.sessions
    alice.say(bob)
    wire.run(0.1)
    assert len(bob.arrived) == 1


def test_who_received_and_has_no_answer_says_so_once_after_ten_seconds(wire: Any, pair: Any) -> None:
    alice, bob = pair
    alice.say(bob)
    before = len(wire.sent)
    wire.run(9.9)
    assert len(wire.sent) == before
    wire.run(60)
    (keepalive,) = wire.sent[before:]
    assert keepalive[0] == bob.number
    assert len(keepalive[1]) == spec.TRANSPORT_OVERHEAD


def test_an_answer_makes_the_keepalive_needless(wire: Any, pair: Any) -> None:
    alice, bob = pair
    alice.say(bob)
    wire.run(1)
    bob.say(alice)
    before = len(wire.sent)
    wire.run(60)
    (keepalive,) = wire.sent[before:]
    assert keepalive[0] == alice.number  # she did not answer the answer


def test_a_peer_that_restarted_is_back_within_two_seconds(wire: Any, pair: Any) -> None:
    for restarted, other in (pair, pair[::-1]):
        restarted.restart()
        restarted.meet(other)
        wire.run(2)
        other.arrived.clear()
        other_said = other.say(restarted)
        assert other_said is not None
        assert restarted.say(other) is not None
        wire.run(0.1)
        assert len(other.arrived) == 1


def test_silence_starts_a_new_handshake(wire: Any, pair: Any) -> None:
    alice, bob = pair
    bob.tunnel.forget_peer(alice.local.public)  # bob lost the session and says nothing
    alice.say(bob)
    before = wire.count(spec.INITIATION)
    wire.run(14.9)
    assert wire.count(spec.INITIATION) == before
    wire.run(0.5)
    assert wire.count(spec.INITIATION) > before
    assert bob.tunnel.drops[VpnDrop.UNKNOWN_INDEX] >= 1


def test_silence_counts_from_the_first_packet_that_got_no_answer(wire: Any, pair: Any) -> None:
    alice, bob = pair
    converse(wire, pair, 60, 0.1)
    bob.tunnel.forget_peer(alice.local.public)
    before = wire.count(spec.INITIATION)
    for _ in range(149):
        alice.say(bob)
        wire.run(0.1)
    assert wire.count(spec.INITIATION) == before
    wire.run(0.5)
    assert wire.count(spec.INITIATION) > before


def test_after_a_conversation_only_its_last_packet_is_confirmed(wire: Any, pair: Any) -> None:
    alice, _ = pair
    converse(wire, pair, 60, 0.1)
    before = len(wire.sent)
    wire.run(9.7)
    assert len(wire.sent) == before
    wire.run(60)
    (keepalive,) = wire.sent[before:]
    assert keepalive[0] == alice.number


def test_nothing_leaves_or_enters_on_a_session_past_its_age(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    alice.meet(bob)
    bob.meet(alice)
    wire.run(1.5)
    wire.lose = lambda sender, datagram: datagram[0] != spec.TRANSPORT
    wire.run(178)
    late = alice.say(bob)
    assert late is not None
    wire.run(10)
    assert alice.say(bob) is None
    bob.receive(alice.knows(bob).current.seal(b""), alice.endpoint)
    assert bob.tunnel.drops[VpnDrop.EXPIRED] == 1


def test_a_session_that_has_used_its_messages_up_is_not_used(wire: Any, pair: Any) -> None:
    alice, bob = pair
    alice.knows(bob).current.sent = spec.REKEY_AFTER_MESSAGES
    before = wire.count(spec.INITIATION)
    assert alice.say(bob) is not None
    assert wire.count(spec.INITIATION) == before + 1
    alice.knows(bob).current.sent = spec.REJECT_AFTER_MESSAGES
    assert alice.say(bob) is None


def test_a_peer_that_moves_is_followed_by_what_it_sends(wire: Any, pair: Any) -> None:
    alice, bob = pair
    bob.endpoint = ("198.51.100.9", 9)
    bob.say(alice)
    wire.run(0.1)
    assert alice.knows(bob).endpoint == bob.endpoint
    alice.say(bob)
    wire.run(0.1)
    assert len(bob.arrived) == 1


def test_a_peer_that_moved_silently_is_found_at_its_new_candidates(wire: Any, pair: Any) -> None:
    alice, bob = pair
    bob.endpoint = ("198.51.100.9", 9)
    alice.meet(bob)
    wire.run(0.1)
    assert alice.knows(bob).endpoint == bob.endpoint


def test_a_peer_that_moves_and_has_nothing_to_say_is_followed_when_it_greets(wire: Any, pair: Any) -> None:
    alice, bob = pair
    bob.endpoint = ("198.51.100.9", 9)
    lost = iter([True, True])
    wire.lose = lambda sender, datagram: next(lost, False)
    bob.tunnel.greet_all(wire.now)
    bob.flush()
    wire.run(0.1)
    assert alice.knows(bob).endpoint == bob.endpoint
    assert wire.count(spec.INITIATION) == 1, "the session goes on"


def test_nobody_is_greeted_without_a_session(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    alice.meet(bob, is_eager=False)
    alice.tunnel.greet_all(wire.now)
    alice.flush()
    assert wire.sent == []


def test_small_constants_renew_in_seconds(wire: Any) -> None:
    quick = Timing(rekey_after=2, reject_after=3, keepalive=0.2, rekey_timeout=0.1)
    alice, bob = wire.add(timing=quick), wire.add(timing=quick)
    alice.meet(bob)
    bob.meet(alice)
    wire.run(1.5)
    for _ in range(100):
        alice.say(bob)
        bob.say(alice)
        wire.run(0.1)
    assert len(alice.arrived) == len(bob.arrived) == 100
    assert wire.count(spec.INITIATION) >= 4
