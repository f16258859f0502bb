"""Hotlines: the kernel brings a peer's datagrams there, and nothing is lost as they come and go. With real sockets."""

from __future__ import annotations

import select
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kairos_net_vpn import hotlines as module
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.endpoints import Endpoints
from kairos_net_vpn.hotlines import CALM, FEW, LEAST, LOOK, MOST, REST, Hotlines
from kairos_net_vpn.offloads import Offloads
from kairos_net_vpn.underlay import Underlay

PAUSE = 1.0
ANY, LOCAL = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}, {4: "127.0.0.1", 6: "::1"}


class Way:
    """The way in and out, as far as hotlines know it: keeps what it is handed."""

    def __init__(self, underlay: Underlay) -> None:
        self.underlay, self.outbound = underlay, self
        self.octets = memoryview(bytearray(1 << 16))
        self.is_streaming = True
        self.came_alone: Any = None
        self.taken: list[tuple[bytes, Any]] = []
        self.looked = 0

    def take_one(self, length: int, source: Any, now: float) -> None:
        self.taken.append((bytes(self.octets[:length]), source))

    def read(self, now: float) -> None:
        self.looked += 1


class Side:
    """One side with its hotlines, on a clock of its own."""

    def __init__(self, family: int) -> None:
        self.now = 100.0
        self.udp = opened(family)
        self.port = self.udp.getsockname()[1]
        self.drops: Counter[VpnDrop] = Counter()
        self.underlay = Underlay(self.udp, Offloads(), self.drops)
        self.way: Any = Way(self.underlay)
        self.poller = select.poll()
        self.hotlines = Hotlines(self.udp, self.poller, Endpoints(family), self.way)

    def open(self, endpoint: Any) -> Any:
        self.hotlines.open(endpoint, self.now)
        return self.underlay.hotlines.get(endpoint)

    def ready(self) -> list[Any]:
        """Return the hotlines on which something waits."""
        return [self.hotlines.by_descriptor[descriptor] for descriptor, _ in self.poller.poll(0)]

    def read(self, pause: float = PAUSE) -> int:
        """Read each of those once, after a pause; return how many there were."""
        self.now += pause
        found = self.ready()
        for hotline in found:
            self.hotlines.read(hotline, self.now)
        return len(found)

    def rest(self) -> list[tuple[bytes, Any]]:
        """Return what waits at the socket for all."""
        found = []
        while (received := self.underlay.receive([self.way.octets])) is not None:
            length, _, source = received
            found.append((bytes(self.way.octets[:length]), source))
        return found

    def close(self) -> None:
        self.hotlines.close()
        self.udp.close()


def opened(family: int) -> socket.socket:
    """Return a socket at a free port, for both families where it is one of IPv6; nobody waits at it."""
    udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if family == socket.AF_INET6:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    udp.bind((ANY[socket.AddressFamily(family)], 0))
    return udp


@pytest.fixture(params=[(socket.AF_INET, 4), (socket.AF_INET6, 4), (socket.AF_INET6, 6)], ids=["4", "4 of 6", "6"])
def world(request: Any) -> Iterator[SimpleNamespace]:
    """A side, a friend with an endpoint, and a stranger; on the loopback interface."""
    family, version = request.param
    side, friend, stranger = Side(family), opened(family), opened(family)
    mapped = "::ffff:" if family == socket.AF_INET6 and version == 4 else ""

    def address_of(udp: socket.socket) -> Any:
        host, port = mapped + LOCAL[version], udp.getsockname()[1]
        return (host, port) if family == socket.AF_INET else (host, port, 0, 0)

    yield SimpleNamespace(
        side=side,
        friend=friend,
        stranger=stranger,
        here=address_of(side.udp),
        endpoint=address_of(friend),
        elsewhere=address_of(stranger),
    )
    side.close()
    friend.close()
    stranger.close()


def test_datagrams_of_the_peer_come_there_and_all_others_where_they_did(world: Any) -> None:
    assert world.side.open(world.endpoint) is not None
    world.friend.sendto(b"from a friend", world.here)
    world.stranger.sendto(b"from a stranger", world.here)
    assert world.side.read() == 1
    assert world.side.way.taken == [(b"from a friend", world.endpoint)]
    assert world.side.rest() == [(b"from a stranger", world.elsewhere)]
    assert world.side.way.looked == 1, "an answer may be there at once"
    assert not world.side.way.is_streaming


def test_what_is_sent_there_comes_from_the_port_of_all(world: Any) -> None:
    world.side.underlay.send(b"before", world.endpoint)
    before = world.friend.recvfrom(99)
    hotline = world.side.open(world.endpoint)
    sent = hotline.send
    calls: list[bytes] = []
    hotline.send = lambda datagram: (calls.append(datagram), sent(datagram))
    world.side.underlay.send(b"on it", world.endpoint)
    world.side.underlay.send(b"to another", world.elsewhere)
    assert world.friend.recvfrom(99) == (b"on it", before[1])
    assert world.stranger.recvfrom(99) == (b"to another", before[1])
    assert calls == [b"on it"]


def test_it_lets_others_fragment_as_the_socket_for_all_does(world: Any) -> None:
    hotline = world.side.open(world.endpoint)
    assert hotline.udp.getsockopt(socket.IPPROTO_IP, 10) == 0
    if hotline.udp.family == socket.AF_INET6:
        assert hotline.udp.getsockopt(socket.IPPROTO_IPV6, 23) == 0


def test_nobody_else_gets_the_port_before_or_after(world: Any) -> None:
    for _ in range(2):
        with socket.socket(world.side.udp.family, socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(("", world.side.port))
        assert world.side.open(world.endpoint) is not None


def test_a_port_left_open_by_a_data_plane_that_died_is_shut_by_the_next(world: Any) -> None:
    world.side.udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    Hotlines(world.side.udp, world.side.poller, Endpoints(world.side.udp.family), world.side.way)
    assert not world.side.udp.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_what_comes_before_the_socket_is_connected_is_handed_on_with_where_it_is_from(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Hotlines._shared_port

    @contextmanager
    def visited(self: Hotlines) -> Iterator[None]:
        with shared(self):
            yield
        world.stranger.sendto(b"from a stranger", world.here)
        world.friend.sendto(b"from a friend", world.here)

    monkeypatch.setattr(Hotlines, "_shared_port", visited)
    assert world.side.open(world.endpoint) is not None
    came = world.side.way.taken + world.side.rest()
    assert sorted(came) == [(b"from a friend", world.endpoint), (b"from a stranger", world.elsewhere)]
    assert world.side.way.taken, "this test meets them on the new socket"


def test_a_stream_moves_to_the_socket_for_all_and_loses_nothing(world: Any) -> None:
    hotline = world.side.open(world.endpoint)
    sent = [bytes([i]) * 1000 for i in range(3 * FEW)]
    for datagram in sent:
        world.friend.sendto(datagram, world.here)
    assert world.side.read() == 1
    assert world.side.way.taken == [(sent[0], world.endpoint)], "after a pause one is expected"
    assert world.side.read(pause=0.0) == 1
    assert world.side.way.taken == [(datagram, world.endpoint) for datagram in sent]
    assert not world.side.underlay.hotlines
    assert not world.side.hotlines.by_descriptor
    assert hotline.udp.fileno() == -1
    world.friend.sendto(b"more", world.here)
    assert world.side.read() == 0
    assert world.side.rest() == [(b"more", world.endpoint)]


def test_a_few_at_once_are_no_stream(world: Any) -> None:
    world.side.open(world.endpoint)
    world.friend.sendto(b"x", world.here)
    world.side.read()
    for _ in range(3):
        for _ in range(FEW - 1):
            world.friend.sendto(b"x", world.here)
        assert world.side.read(pause=0.0) == 1
    assert len(world.side.way.taken) == 1 + 3 * (FEW - 1)
    assert world.endpoint in world.side.underlay.hotlines


def test_what_cannot_be_sent_there_is_sent_by_the_socket_for_all(world: Any) -> None:
    hotline = world.side.open(world.endpoint)

    def fails(datagram: bytes) -> int:
        raise OSError(22, "the address we had is gone")

    hotline.send = fails
    world.side.underlay.send(b"all the same", world.endpoint)
    assert world.friend.recv(99) == b"all the same"
    assert not world.side.drops
    world.friend.sendto(b"answer", world.here)  # what comes is still taken, until somebody looks
    assert world.side.read() == 1
    world.side.hotlines.handle_timer(world.side.now)
    assert not world.side.hotlines.by_descriptor


def test_a_peer_that_is_gone_for_a_moment_stops_nothing(world: Any) -> None:
    world.side.open(world.endpoint)
    world.friend.close()
    for _ in range(3):  # the kernel says on the next call that the one before was refused
        world.side.underlay.send(b"lost", world.endpoint)
        world.side.read()
    assert world.side.read() == 0, "the loop would turn for ever"
    assert not world.side.way.taken
    assert not world.side.drops


def test_who_has_fallen_silent_keeps_none(world: Any) -> None:
    world.side.open(world.endpoint)
    hotlines = world.side.hotlines
    assert hotlines.wake == world.side.now + LOOK
    world.side.now += LOOK
    hotlines.handle_timer(world.side.now)
    assert world.endpoint in world.side.underlay.hotlines, "it is new"
    for _ in range(LEAST):
        world.friend.sendto(b"x", world.here)
        world.side.read()
    hotlines.handle_timer(world.side.now)
    assert world.endpoint in world.side.underlay.hotlines
    hotlines.handle_timer(world.side.now)
    assert not hotlines.by_descriptor
    assert hotlines.wake == float("inf"), "nobody is woken for nothing"


def test_one_that_leaves_from_another_address_than_the_kernel_chooses_is_given_up(world: Any) -> None:
    hotline = world.side.open(world.endpoint)
    hotline.source = "192.0.2.7"
    world.friend.sendto(b"still there", world.here)
    world.side.hotlines.handle_timer(world.side.now)
    assert not world.side.hotlines.by_descriptor
    assert world.side.way.taken == [(b"still there", world.endpoint)]


def test_there_are_only_so_many(world: Any) -> None:
    for port in range(1, MOST + 3):
        world.side.open((world.endpoint[0], port, *world.endpoint[2:]))
    assert len(world.side.hotlines.by_descriptor) == MOST


def test_where_the_kernel_refuses_there_is_none(world: Any) -> None:
    beyond = ("255.255.255.255", 9) if world.side.udp.family == socket.AF_INET else ("ff02::1", 9, 0, 0)
    assert world.side.open(beyond) is None
    assert not world.side.hotlines.by_descriptor
    assert not world.side.udp.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_a_peer_that_talks_calmly_gets_one_and_a_stranger_never(world: Any) -> None:
    side, session = world.side, object()
    peers: Any = [
        SimpleNamespace(endpoint=world.endpoint, current=session),
        SimpleNamespace(endpoint=world.elsewhere, current=None),
    ]
    for source in (world.elsewhere, world.endpoint):
        side.way.came_alone = source
        for _ in range(CALM - 1):
            side.hotlines.note_calm(peers, side.now)
        assert not side.underlay.hotlines
        side.way.came_alone = None
        side.hotlines.note_calm(peers, side.now)
        assert not side.underlay.hotlines, "what came in a stream is not counted"
        side.way.came_alone = source
        side.hotlines.note_calm(peers, side.now)
    assert set(side.underlay.hotlines) == {world.endpoint}


def test_after_a_stream_nobody_gets_one_for_a_while(world: Any) -> None:
    side = world.side
    peers: Any = [SimpleNamespace(endpoint=world.endpoint, current=object())]
    side.open(world.endpoint)
    for _ in range(FEW + 1):
        world.friend.sendto(b"x", world.here)
    side.read()
    side.read(pause=0.0)
    side.way.came_alone = world.endpoint
    for later, has_one in ((REST - 0.1, False), (REST, True)):
        for _ in range(CALM):
            side.hotlines.note_calm(peers, side.now + later)
        assert (world.endpoint in side.underlay.hotlines) is has_one


def test_its_buffer_is_as_large_as_may_be(world: Any) -> None:
    allowed = int(Path("/proc/sys/net/core/rmem_max").read_text())
    hotline = world.side.open(world.endpoint)
    assert hotline.udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * min(allowed, module._BUFFER)


def test_the_sources_of_these_tests_are_those_that_the_packet_path_has(world: Any) -> None:
    """Else a peer on a hotline would seem to be elsewhere."""
    world.friend.sendto(b"x", world.here)
    assert world.side.rest() == [(b"x", world.endpoint)]
    assert module.LEAST <= 1 / 0.2, "a ping of five a second is a conversation"
