"""Sockets that are connected to one peer each, for conversations: single packets to and fro, with pauses.

After a pause each call finds nothing in the processor's caches. Then it takes the kernel 10 us to find the way to an
address, and Python 15 us to write down from where a datagram came. A connected socket spares both: its datagrams come
from where it is connected to, and there is no other way to that than its own.

A stream has no pauses, and is better served by the socket for all, which has larger buffers and takes many datagrams
at once. So where more comes than a conversation has, its hotline is given up. It is looked after once a second: nobody
keeps one who has fallen silent, nor one that leaves from an address that the kernel would choose no more. Whatever
fails here is done by the socket for all.

Sources: udp(7), ip(7); compute_score in Linux' net/ipv4/udp.c, by which a connected socket comes before the others.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from kairos_net_vpn.datagrams import MOST_RECEIVED
from kairos_net_vpn.endpoints import Endpoints
from kairos_net_vpn.inbound import Inbound
from kairos_net_vpn.outbound import PAUSE
from kairos_net_vpn.peer import NEVER, Endpoint, Peer
from kairos_net_vpn.underlay import let_fragment

MOST = 16
"""Hotlines at once. Raising it serves more conversations, and makes the kernel compare as many more sockets for each
datagram to the port."""
FEW = 4
"""Datagrams without a pause that are still no stream. Raising it has more of a stream come one by one before it moves
to the socket for all; with 1 two conversations with the same peer would give the hotline up."""
LOOK = 1.0
"""Seconds between two looks at a hotline. Raising it has packets leave from a stale address for longer."""
CALM = 16
"""Datagrams that come alone until one of their senders gets a hotline, which costs what it gains with a few. Raising it
waits longer, and lets fewer be opened in vain."""
REST = 5.0
"""Seconds after a stream came on a hotline until one is opened again. A burst that meets one may lose what its buffer,
which is small, does not hold. Lowering it has that happen more often where conversations and bursts take turns."""
LEAST = 4
"""Datagrams in LOOK seconds that are a conversation. Lowering it keeps the process awake for the odd packet."""

_BUFFER = 1 << 20
"""Bytes to ask for, of which a process without privileges gets what net.core.rmem_max allows, twice the default."""
_NOBODY = {socket.AF_INET: ("127.0.0.1", 9), socket.AF_INET6: ("::1", 9)}
"""The port `discard`: nothing comes from there."""


class Watcher(Protocol):
    """As much of select.poll as is needed."""

    def register(self, descriptor: int, events: int) -> None: ...

    def unregister(self, descriptor: int) -> None: ...


class Hotline:
    """A socket connected to an endpoint. `source` is our address on it."""

    __slots__ = ("endpoint", "heard", "receive", "send", "source", "udp")

    def __init__(self, udp: socket.socket, endpoint: Endpoint) -> None:
        self.udp, self.endpoint = udp, endpoint
        self.source: str = udp.getsockname()[0]
        self.send, self.receive = udp.send, udp.recv_into
        self.heard = LEAST
        """Datagrams since the last look."""


class Hotlines:
    """All hotlines of a data plane, beside its socket for all, `udp`; what comes on them is handed to `inbound`."""

    def __init__(self, udp: socket.socket, watcher: Watcher, endpoints: Endpoints, inbound: Inbound) -> None:
        self._udp, self._watcher, self._endpoints, self._inbound = udp, watcher, endpoints, inbound
        self._by_endpoint = inbound.underlay.hotlines
        self._read_at, self._calm, self._rests_until = 0.0, 0, 0.0
        self.by_descriptor: dict[int, Hotline] = {}
        self.wake = NEVER
        """When to call `handle_timer` next."""
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # a data plane before this one may have died at it

    def note_calm(self, peers: Iterable[Peer], now: float) -> None:
        """Note whether a datagram came alone at the socket for all: of so many, the last one's sender gets a hotline.

        A source proves nothing, so it is where one of the peers is, or nobody gets one.
        """
        source = self._inbound.came_alone
        if source is None:
            return
        self._calm = (self._calm + 1) % CALM
        if self._calm or now < self._rests_until:
            return
        if any(peer.endpoint == source and peer.current is not None for peer in peers):
            self.open(source, now)

    def open(self, endpoint: Endpoint, now: float) -> None:
        """Open a hotline to an endpoint if there is room for one, and none; where the kernel refuses there is none."""
        if endpoint in self._by_endpoint or len(self.by_descriptor) >= MOST:
            return
        try:
            hotline = Hotline(self._connected(endpoint), endpoint)
        except OSError:  # a port that only root may bind, for one
            return
        udp = hotline.udp
        self.by_descriptor[udp.fileno()] = self._by_endpoint[endpoint] = hotline
        self._watcher.register(udp.fileno(), select.POLLIN)
        self.wake = min(self.wake, now + LOOK)
        self._take_strays(hotline, now)

    def read(self, hotline: Hotline, now: float) -> None:
        """Take what waits at a hotline, as Inbound.read at the socket for all."""
        inbound = self._inbound
        inbound.is_streaming = False
        has_paused, self._read_at = now - self._read_at > PAUSE, now
        for _ in range(1 if has_paused else FEW):
            try:
                length = hotline.receive(inbound.octets)
            except OSError:  # nothing waits; or an ICMP error did, and whatever is behind it is reported anew
                return
            hotline.heard += 1
            inbound.take_one(length, hotline.endpoint, now)
        if has_paused:
            inbound.outbound.read(now)
        else:
            self._rests_until = now + REST
            self._give_up(hotline, now)

    def handle_timer(self, now: float) -> None:
        """Look after all hotlines. Sets `wake` anew."""
        for hotline in list(self.by_descriptor.values()):
            is_used = hotline.heard >= LEAST and hotline.endpoint in self._by_endpoint
            hotline.heard = 0
            if not is_used or self._source_for(hotline.endpoint) != hotline.source:
                self._give_up(hotline, now)
        self.wake = now + LOOK if self.by_descriptor else NEVER

    def close(self) -> None:
        for hotline in self.by_descriptor.values():
            hotline.udp.close()

    def _give_up(self, hotline: Hotline, now: float) -> None:
        """Leave a peer's datagrams to the socket for all, first those that come and then those that have come."""
        self._by_endpoint.pop(hotline.endpoint, None)
        with suppress(OSError):
            hotline.udp.connect(_NOBODY[hotline.udp.family])
        self._take_rest(hotline, now)
        descriptor = hotline.udp.fileno()
        del self.by_descriptor[descriptor]
        self._watcher.unregister(descriptor)
        hotline.udp.close()

    def _take_rest(self, hotline: Hotline, now: float) -> None:
        while True:
            try:
                length = hotline.receive(self._inbound.octets)
            except BlockingIOError:
                return
            except OSError:
                continue
            self._inbound.take_one(length, hotline.endpoint, now)

    def _take_strays(self, hotline: Hotline, now: float) -> None:
        """Take what came while the socket was bound and not connected yet: it may be from anybody."""
        while True:
            try:
                datagram, source = hotline.udp.recvfrom(MOST_RECEIVED)
            except OSError:
                return
            self._inbound.octets[: len(datagram)] = datagram
            self._inbound.take_one(len(datagram), self._endpoints.of(source), now)

    def _connected(self, endpoint: Endpoint) -> socket.socket:
        """Return a socket at our port that is connected to an endpoint. Raises OSError."""
        family, address = self._endpoints.native(endpoint)
        udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            let_fragment(udp)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)  # as much of it as is allowed
            with self._shared_port():
                udp.bind(("", self._udp.getsockname()[1]))
            udp.connect(address)
        except OSError:
            udp.close()
            raise
        return udp

    def _source_for(self, endpoint: Endpoint) -> str | None:
        """Return the address that the kernel would choose now to reach an endpoint from; None without a way to it."""
        family, address = self._endpoints.native(endpoint)
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            try:
                asked.connect(address)
            except OSError:
                return None
            return str(asked.getsockname()[0])

    @contextmanager
    def _shared_port(self) -> Iterator[None]:
        """Let a socket of ours bind to the port that is in use; nobody else's, before and after."""
        self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            yield
        finally:
            self._udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
