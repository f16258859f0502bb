"""Cookies: the reply by the paper's formulas, and two tunnels of which one is under load."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn import cookies, spec, xchacha
from kairos_net_vpn.cookies import CookieJar, Gate
from kairos_net_vpn.drops import Refused, VpnDrop

PUBLIC = bytes(range(32))
SOURCE, HOST = b"192.0.2.1 7000", b"192.0.2.1"
MESSAGE = b"\x01\0\0\0\x07\0\0\0" + bytes(108) + bytes(range(16)) + bytes(16)


def entropy(size: int) -> bytes:
    return bytes(range(size))


def busy_gate(now: float = 10.0) -> Gate:
    gate = Gate(PUBLIC, entropy)
    while not gate.is_busy(now):
        gate.admit(MESSAGE, SOURCE, HOST, now)
    return gate


def test_a_reply_is_what_the_paper_says() -> None:
    reply = busy_gate().admit(MESSAGE, SOURCE, HOST, 10.0)
    assert reply is not None
    secret = entropy(32)
    cookie = hashlib.blake2s(SOURCE, key=secret, digest_size=16).digest()
    key = hashlib.blake2s(b"cookie--" + PUBLIC).digest()
    nonce = reply[8:32]
    assert reply[:8] == b"\x03\0\0\0\x07\0\0\0"
    assert int.from_bytes(nonce) == int.from_bytes(entropy(24)) + 1, "that which made it busy got the first cookie"
    assert xchacha.open_sealed(key, nonce, reply[32:], bytes(range(16))) == cookie
    assert len(reply) == spec.COOKIE_SIZE

    jar = CookieJar(PUBLIC)
    assert jar.prove(MESSAGE, 10.0) == MESSAGE
    jar.take(reply, 10.0)
    proven = jar.prove(MESSAGE, 129.9)
    assert proven[:-16] == MESSAGE[:-16]
    assert proven[-16:] == hashlib.blake2s(MESSAGE[:-16], key=cookie, digest_size=16).digest()
    assert jar.prove(MESSAGE, 130.0) == MESSAGE


def test_a_quiet_gate_lets_everything_in() -> None:
    gate = Gate(PUBLIC, entropy)
    assert all(gate.admit(MESSAGE, SOURCE, HOST, float(second)) is None for second in range(100))


def test_a_busy_gate_lets_in_who_shows_a_cookie_for_its_address() -> None:
    gate, jar = busy_gate(), CookieJar(PUBLIC)
    jar.prove(MESSAGE, 10.0)
    reply = gate.admit(MESSAGE, SOURCE, HOST, 10.0)
    assert reply is not None
    jar.take(reply, 10.0)
    proven = jar.prove(MESSAGE, 10.1)
    assert gate.admit(proven, SOURCE, HOST, 10.1) is None
    assert gate.admit(proven, b"203.0.113.66 7000", b"203.0.113.66", 10.1) is not None
    assert gate.admit(proven[:-1] + b"?", SOURCE, HOST, 10.1) is not None


def test_a_cookie_admits_a_host_no_oftener_than_its_ration() -> None:
    gate, jar = busy_gate(), CookieJar(PUBLIC)
    jar.prove(MESSAGE, 10.0)
    jar.take(gate.admit(MESSAGE, SOURCE, HOST, 10.0) or b"", 10.0)
    proven = jar.prove(MESSAGE, 10.0)
    for _ in range(5):
        assert gate.admit(proven, SOURCE, HOST, 10.1) is None
    with pytest.raises(Refused) as refused:
        gate.admit(proven, SOURCE, HOST, 10.1)
    assert refused.value.drop is VpnDrop.FLOODED


def test_a_gate_is_quiet_again_a_second_after_the_flood() -> None:
    gate = busy_gate(10.0)
    assert gate.is_busy(10.9)
    assert gate.admit(MESSAGE, SOURCE, HOST, 11.1) is None


def test_a_flood_gets_so_many_cookies_and_no_more() -> None:
    gate, given_out, refused = busy_gate(), 0, 0
    for step in range(20_000):
        try:
            given_out += gate.admit(MESSAGE, step.to_bytes(4), step.to_bytes(4), 10.0 + step / 20_000) is not None
        except Refused:
            refused += 1
    assert given_out <= 2 * cookies.REPLIES
    assert refused > 0


def exhausted_gate(now: float = 10.0) -> Gate:
    """A gate that has given all cookies of this moment."""
    gate = busy_gate(now)
    while not gate.is_full(MESSAGE, now):
        gate.admit(MESSAGE, SOURCE, HOST, now)
    return gate


def test_only_a_busy_gate_is_full_and_only_for_who_shows_no_proof() -> None:
    assert not Gate(PUBLIC, entropy).is_full(MESSAGE, 10.0)
    assert not busy_gate().is_full(MESSAGE, 10.0)
    gate = exhausted_gate()
    assert not gate.is_full(MESSAGE[:-1] + b"?", 10.0)
    assert not gate.is_full(MESSAGE, 10.1), "a tenth of a second later there are cookies again"
    assert not gate.is_full(MESSAGE, 11.1), "it is quiet again"


def test_a_host_where_a_peer_is_gets_cookies_when_strangers_get_none() -> None:
    gate = exhausted_gate()
    gate.known = {HOST}
    assert gate.spares(HOST, 10.0)
    assert gate.admit(MESSAGE, SOURCE, HOST, 10.0) is not None
    stranger = b"203.0.113.66"
    assert not gate.spares(stranger, 10.0)
    with pytest.raises(Refused) as refused:
        gate.admit(MESSAGE, b"203.0.113.66 7000", stranger, 10.0)
    assert refused.value.drop is VpnDrop.FLOODED


def test_who_floods_from_the_address_of_a_peer_gets_no_more_than_what_is_spared() -> None:
    gate = exhausted_gate()
    gate.known = {HOST}
    replies = [gate.admit(MESSAGE, SOURCE, HOST, 10.0) for _ in range(int(cookies.SPARED))]
    assert all(replies)
    assert not gate.spares(HOST, 10.0)
    with pytest.raises(Refused):
        gate.admit(MESSAGE, SOURCE, HOST, 10.0)


def test_no_two_replies_have_one_nonce_also_when_the_secret_has_changed() -> None:
    from random import Random

    gate, nonces = Gate(PUBLIC, Random(1).randbytes), set()
    for now in (10.0, 70.0, 130.5):
        while not gate.is_busy(now):
            gate.admit(MESSAGE, SOURCE, HOST, now)
        for _ in range(20):
            reply = gate.admit(MESSAGE, SOURCE, HOST, now)
            assert reply is not None
            nonces.add(reply[8:32])
    assert len(nonces) == 60
    assert len({nonce[:16] for nonce in nonces}) == 2


def test_the_secret_of_cookies_changes_every_two_minutes() -> None:
    gate, jar = busy_gate(10.0), CookieJar(PUBLIC)
    jar.prove(MESSAGE, 10.0)
    jar.take(gate.admit(MESSAGE, SOURCE, HOST, 10.0) or b"", 10.0)
    proven = jar.prove(MESSAGE, 10.0)
    gate._entropy = bytes  # the next secret is another
    while not gate.is_busy(130.5):
        gate.admit(MESSAGE, SOURCE, HOST, 130.5)
    assert gate.admit(proven, SOURCE, HOST, 130.5) is not None


@given(st.integers(0, spec.COOKIE_SIZE - 1), st.integers(1, 255))
def test_no_altered_reply_is_taken(position: int, mask: int) -> None:
    jar = CookieJar(PUBLIC)
    jar.prove(MESSAGE, 10.0)
    reply = bytearray(busy_gate().admit(MESSAGE, SOURCE, HOST, 10.0) or b"")
    reply[position] ^= mask
    if position < 8:
        return  # type and receiver: looked at before the jar
    with pytest.raises(Refused) as refused:
        jar.take(bytes(reply), 10.0)
    assert refused.value.drop is VpnDrop.UNSEAL
    assert jar.prove(MESSAGE, 10.0) == MESSAGE


def flood(node: Any, count: int = 300) -> None:
    """Let strangers who know the node's key knock until it is under load."""
    from kairos_net_vpn.noise import Remote

    for number in range(count):
        head = spec.INITIATION.to_bytes(4, "little") + number.to_bytes(4, "little") + bytes(108)
        knock = Remote(node.wire.nodes[-1].local, node.local.public).with_macs(head)
        node.tunnel.receive(knock, (f"203.0.113.{number % 250}", number + 1), node.wire.now)
        node.tunnel.take_outbox()


def test_peers_meet_through_a_flood(wire: Any) -> None:
    alice, bob, _ = wire.add(), wire.add(), wire.add()
    alice.meet(bob)
    bob.meet(alice, is_eager=False)
    for _ in range(20):
        flood(bob)
        wire.run(0.1)
    assert bob.tunnel.drops[VpnDrop.COOKIE] > 1000
    assert alice.knows(bob).current is not None
    assert wire.count(spec.COOKIE) == 1  # the second initiation was proven
    alice.say(bob)
    wire.run(0.1)
    assert len(bob.arrived) == 1


def test_most_of_a_large_flood_is_refused_unread(wire: Any) -> None:
    bob, _ = wire.add(), wire.add()
    flood(bob, 300 + int(cookies.REPLIES))
    before = bob.tunnel.drops.copy()
    not_for_bob = spec.INITIATION.to_bytes(4, "little") + bytes(144)
    bob.receive(not_for_bob, ("203.0.113.9", 9))
    assert bob.tunnel.drops - before == {VpnDrop.FLOODED: 1}, "a hash would have told that its mac1 is wrong"
    wire.run(1.1)
    bob.receive(not_for_bob, ("203.0.113.9", 9))
    assert bob.tunnel.drops[VpnDrop.BAD_MAC] == 1


def test_a_peer_gets_in_through_a_flood_that_takes_all_cookies(wire: Any) -> None:
    alice, bob, _ = wire.add(), wire.add(), wire.add()
    alice.meet(bob)
    bob.meet(alice, is_eager=False)
    for _ in range(10):
        flood(bob, 2 * int(cookies.REPLIES))
        wire.run(0.1)
    assert bob.tunnel.drops[VpnDrop.FLOODED] > bob.tunnel.drops[VpnDrop.COOKIE]
    assert wire.count(spec.COOKIE) == 1
    assert alice.knows(bob).current is not None


def test_a_peer_of_which_the_node_hears_in_a_flood_is_spared_a_second_later(wire: Any) -> None:
    alice, bob, _ = wire.add(), wire.add(), wire.add()
    alice.meet(bob, is_eager=False)
    flood(bob, 2 * int(cookies.REPLIES))
    bob.meet(alice, is_eager=False)
    for _ in range(22):
        wire.run(0.1)
        flood(bob, 2 * int(cookies.REPLIES))
        alice.say(bob)
    assert alice.knows(bob).current is not None


def test_an_initiator_under_load_gets_its_response_proven(wire: Any) -> None:
    alice, bob, _ = wire.add(), wire.add(), wire.add()
    alice.meet(bob)
    bob.meet(alice, is_eager=False)
    for _ in range(20):
        flood(alice)
        wire.run(0.1)
    assert wire.count(spec.COOKIE) == 1
    assert alice.knows(bob).current is not None


def test_a_cookie_that_nobody_asked_for_is_dropped(wire: Any, pair: Any) -> None:
    alice, bob = pair
    bob.receive(spec.COOKIE.to_bytes(4, "little") + bytes(60), alice.endpoint)
    index = bob.knows(alice).current.index.to_bytes(4, "little")
    bob.receive(spec.COOKIE.to_bytes(4, "little") + index + bytes(56), alice.endpoint)
    bob.receive(spec.COOKIE.to_bytes(4, "little") + bytes(59), alice.endpoint)
    bob.receive(spec.COOKIE.to_bytes(4, "little") + bytes(61), alice.endpoint)
    drops = bob.tunnel.drops
    assert drops == {VpnDrop.UNKNOWN_INDEX: 1, VpnDrop.UNSEAL: 1, VpnDrop.TRUNCATED: 1, VpnDrop.MALFORMED: 1}
