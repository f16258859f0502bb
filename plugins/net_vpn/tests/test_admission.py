"""Who has been admitted once is known again by its headers: that may admit nothing that an examination would not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kairos_net_vpn.admission import MOST_KNOWN
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.vnet import GSO_NONE, GSO_TCPV4, GSO_UDP_L4, HEADER, NEEDS_CSUM, TCP, UDP

ALICE, BOB, STRANGER = bytes((10, 1, 0, 1)), bytes((10, 1, 0, 2)), bytes((10, 1, 0, 77))


def frame(source: bytes, destination: bytes, protocol: int, payload: bytes, virtio: bytes = bytes(10)) -> bytes:
    """Return a frame with TCP (20 bytes of header) or UDP in it."""
    layer4 = bytes(12) + b"\x50\x10" + bytes(6) if protocol == TCP else bytes(8)
    length = 20 + len(layer4) + len(payload)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, length, 0, 0x4000, 64, protocol, 0, source, destination)
    return virtio + ip + layer4 + payload


KINDS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "plain": lambda source, payload: frame(source, BOB, UDP, payload),
    "checksum": lambda source, payload: frame(
        source, BOB, UDP, payload, HEADER.pack(NEEDS_CSUM, GSO_NONE, 0, 0, 20, 6)
    ),
    "tcp": lambda source, payload: frame(
        source, BOB, TCP, payload, HEADER.pack(NEEDS_CSUM, GSO_TCPV4, 40, 100, 20, 16)
    ),
    "udp": lambda source, payload: frame(
        source, BOB, UDP, payload, HEADER.pack(NEEDS_CSUM, GSO_UDP_L4, 28, 100, 20, 6)
    ),
}


@pytest.fixture
def acquainted(wire: Any) -> Callable[[], tuple[Any, Any]]:
    """Make a tunnel, and a peer that may send from one address."""

    def acquaint() -> tuple[Any, Any]:
        fresh = type(wire)()
        alice, bob = fresh.add(), fresh.add()
        bob.meet(alice)
        return bob.tunnel, bob.knows(alice).peer

    return acquaint


def admitted(tunnel: Any, peer: Any, one: bytes) -> tuple[bytes | None, dict[VpnDrop, int]]:
    before = tunnel.drops.copy()
    found = tunnel.admit(memoryview(bytearray(one)), peer)
    return None if found is None else bytes(found), dict(tunnel.drops - before)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(KINDS)),
    place=st.integers(0, 60) | st.sampled_from([12, 13, 42]),
    value=st.integers(0, 255),
    size=st.integers(11, 400),
)
def test_an_altered_frame_fares_after_a_good_one_as_it_would_alone(
    acquainted: Any, kind: str, place: int, value: int, size: int
) -> None:
    good = KINDS[kind](ALICE, bytes(range(200)))
    altered = bytearray(good)
    altered[place] = value
    altered = altered[:size] + bytes(max(0, size - len(altered)))  # cut, or padded
    after, alone = acquainted(), acquainted()
    for _ in range(2):
        assert admitted(*after, good) == (good, {})
    assert admitted(*after, bytes(altered)) == admitted(*alone, bytes(altered))
    assert admitted(*after, good) == (good, {})


def test_padding_is_taken_off_whoever_is_known(acquainted: Any) -> None:
    tunnel, peer = acquainted()
    good = KINDS["udp"](ALICE, bytes(200))
    for _ in range(2):
        assert admitted(tunnel, peer, good + bytes(12)) == (good, {})


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_who_loses_an_address_is_known_no_longer(kind: str, wire: Any) -> None:
    alice, bob, carol = wire.add(), wire.add(), wire.add()
    bob.meet(alice)
    peer = bob.knows(alice).peer
    good = KINDS[kind](ALICE, bytes(200))
    assert admitted(bob.tunnel, peer, good) == (good, {})
    carol.address = alice.address  # the lease went to another
    bob.meet(carol)
    assert admitted(bob.tunnel, peer, good) == (None, {VpnDrop.SOURCE_MISMATCH: 1})
    assert admitted(bob.tunnel, bob.knows(carol).peer, good) == (good, {})


def test_a_peer_that_moves_to_another_address_may_not_use_the_first(wire: Any) -> None:
    alice, bob = wire.add(), wire.add()
    bob.meet(alice)
    peer = bob.knows(alice).peer
    assert admitted(bob.tunnel, peer, KINDS["udp"](ALICE, bytes(200)))[0]
    alice.address = "10.1.0.77"
    bob.meet(alice)
    assert admitted(bob.tunnel, peer, KINDS["udp"](ALICE, bytes(200))) == (None, {VpnDrop.SOURCE_MISMATCH: 1})
    assert admitted(bob.tunnel, peer, KINDS["udp"](STRANGER, bytes(200)))[0]


def test_one_peer_is_not_known_by_what_another_sent(wire: Any) -> None:
    alice, bob, carol = wire.add(), wire.add(), wire.add()
    bob.meet(alice)
    bob.meet(carol)
    good = KINDS["udp"](ALICE, bytes(200))
    assert admitted(bob.tunnel, bob.knows(alice).peer, good) == (good, {})
    assert admitted(bob.tunnel, bob.knows(carol).peer, good) == (None, {VpnDrop.SOURCE_MISMATCH: 1})


def test_a_peer_that_sends_all_sorts_takes_no_memory(acquainted: Any) -> None:
    tunnel, peer = acquainted()
    for gso_size in range(1, 3 * MOST_KNOWN):
        virtio = HEADER.pack(NEEDS_CSUM, GSO_UDP_L4, 28, gso_size, 20, 6)
        assert tunnel.admit(memoryview(bytearray(frame(ALICE, BOB, UDP, bytes(99), virtio))), peer) is not None
        assert len(peer.admitted) <= MOST_KNOWN
