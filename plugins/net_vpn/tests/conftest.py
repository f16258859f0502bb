"""Two or more tunnels on a wire in memory, on virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from kairos_net_vpn.handshakes import Sources
from kairos_net_vpn.noise import Local
from kairos_net_vpn.paths import Underground
from kairos_net_vpn.peer import Endpoint
from kairos_net_vpn.prefixes import Inside
from kairos_net_vpn.spec import Timing
from kairos_net_vpn.tunnel import PeerState, Tunnel
from kairos_net_vpn.vnet import PLAIN

PSK = bytes(range(32))
SUBNETS = (ip_network("10.1.0.0/24"), ip_network("fd00::/64"))


def ipv4(source: str, destination: str, payload: bytes = b"payload") -> bytes:
    """Return an IPv4 packet (protocol 253, for tests by RFC 3692)."""
    length = (20 + len(payload)).to_bytes(2)
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    return b"\x45\0" + length + b"\0\0\0\0\x40\xfd\0\0" + addresses + payload


def ipv6(source: str, destination: str, payload: bytes = b"payload") -> bytes:
    """Return an IPv6 packet (next header 253, as above)."""
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    return b"\x60\0\0\0" + len(payload).to_bytes(2) + b"\xfd\x40" + addresses + payload


class Node:
    """A tunnel, where it is on the wire, and the packets that came out of it."""

    def __init__(self, wire: Wire, number: int, psk: bytes, timing: Timing) -> None:
        self.wire, self.number = wire, number
        self.address, self.ipv6 = f"10.1.0.{number}", f"fd00::{number}"
        self.endpoint: Endpoint = (f"192.0.2.{number}", 7000)
        self.arrived: list[bytes] = []
        self.forwards: tuple[str, ...] = ()
        self.local = Local(X25519PrivateKey.from_private_bytes(bytes([number]) * 32), psk)
        self.timing = timing
        self.clock = 0.0  # seconds by which its wall clock is wrong
        self.restart()

    def restart(self) -> None:
        """Forget everything, as a new process does."""
        self.tunnel = Tunnel(
            self.local,
            inside=Inside(self.addresses, SUBNETS, tuple(map(ip_network, self.forwards))),
            mtu=1420,
            timing=self.timing,
            sources=Sources(self.wire.random.randbytes, lambda: 1.7e9 + self.wire.now + self.clock),
            underground=Underground(loops=lambda endpoint: str(endpoint[0]).startswith("10.1.0.")),
        )

    @property
    def addresses(self) -> frozenset[bytes]:
        return frozenset(ip_address(text).packed for text in (self.address, self.ipv6))

    def meet(self, other: Node, *, is_eager: bool = True, at: Endpoint | None = None, **more: Any) -> None:
        state = PeerState(other.local.public, (at or other.endpoint,), other.addresses, is_eager, **more)
        self.tunnel.set_peer(state, self.wire.now)
        self.flush()

    def send(self, packet: bytes) -> bytes | None:
        """Give the tunnel a packet; return the datagram if it left at once."""
        now, datagram = self.wire.now, None
        session = self.tunnel.carrier(memoryview(bytearray(PLAIN + packet)), now)
        if session is not None:
            datagram = session.seal(packet)
            self.tunnel.has_sent(session, len(datagram), now)
            self.wire.carry(self, datagram, session.peer.endpoint)
        self.flush()
        return datagram

    def say(self, other: Node, payload: bytes = b"payload") -> bytes | None:
        return self.send(ipv4(self.address, other.address, payload))

    def receive(self, datagram: bytes, source: Endpoint) -> None:
        packet = self.tunnel.receive(datagram, source, self.wire.now)
        if packet is not None:
            self.arrived.append(packet)
        self.flush()

    def flush(self) -> None:
        for datagram, endpoint in self.tunnel.take_outbox():
            self.wire.carry(self, datagram, endpoint)

    def knows(self, other: Node) -> SimpleNamespace:
        """Return how this node sees the other: sessions, endpoint."""
        peer = self.tunnel.table.find(other.local.public)
        assert peer is not None
        return SimpleNamespace(peer=peer, current=peer.current, endpoint=peer.endpoint)


class Wire:
    """Carries datagrams in `delay` seconds, loses those that `lose` names, and drives the timers."""

    def __init__(self) -> None:
        self.now = 100.0
        self.delay = 0.01
        self.random = random.Random(1)
        self.nodes: list[Node] = []
        self.sent: list[tuple[int, bytes, Endpoint]] = []
        self.lose: Callable[[Node, bytes], bool] = lambda sender, datagram: False
        self._flying: list[tuple[float, int, bytes, Endpoint, Endpoint]] = []
        self._order = itertools.count()

    def add(self, psk: bytes = PSK, timing: Timing | None = None) -> Node:
        node = Node(self, len(self.nodes) + 1, psk, timing or Timing())
        self.nodes.append(node)
        return node

    def carry(self, sender: Node, datagram: bytes, destination: Endpoint) -> None:
        self.sent.append((sender.number, datagram, destination))
        if not self.lose(sender, datagram):
            flight = (self.now + self.delay, next(self._order), datagram, sender.endpoint, destination)
            heapq.heappush(self._flying, flight)

    def run(self, seconds: float) -> None:
        """Let this much virtual time pass."""
        end = self.now + seconds
        while (due := self._next_due()) <= end:
            self.now = max(self.now, due)
            while self._flying and self._flying[0][0] <= self.now:
                _, _, datagram, source, destination = heapq.heappop(self._flying)
                for node in self.nodes:
                    if node.endpoint == destination:
                        node.receive(datagram, source)
            for node in self.nodes:
                if node.tunnel.wake <= self.now:
                    node.tunnel.handle_timer(self.now)
                    node.flush()
        self.now = end

    def _next_due(self) -> float:
        arrival = self._flying[0][0] if self._flying else float("inf")
        return min(arrival, *(node.tunnel.wake for node in self.nodes))

    def count(self, kind: int) -> int:
        """Return how many datagrams of a type were sent."""
        return sum(1 for _, datagram, _ in self.sent if datagram[0] == kind)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A wire; at its end no tunnel may hold a session index that no peer has."""
    wire = Wire()
    yield wire
    for node in wire.nodes:
        table = node.tunnel.table
        held = {session.index for peer in table for session in peer.sessions()}
        assert table.sessions.keys() == held
        assert table.pending.keys() == {peer.pending.index for peer in table if peer.pending}


@pytest.fixture
def pair(wire: Wire) -> tuple[Node, Node]:
    """Two nodes that know each other and have a session."""
    alice, bob = wire.add(), wire.add()
    alice.meet(bob)
    bob.meet(alice)
    wire.run(1.5)
    return alice, bob


@pytest.fixture
def packet() -> Callable[..., bytes]:
    return ipv4


@pytest.fixture
def packet6() -> Callable[..., bytes]:
    return ipv6
