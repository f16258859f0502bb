"""A Transport without sockets: nodes of one process reach each other through a `MemoryNetwork`.

It passes the same checks as a real one. Loss and delay come from a random generator that is handed in, and
time from the event loop alone, so on a loop with virtual time a whole network is one deterministic test.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from kairos_core.errors import TransportError
from kairos_core.interfaces import MAX_DATAGRAM, MAX_MESSAGE, Stream, Transport, TransportHost
from kairos_core.model import Address, PeerId
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.otp import NetworkKey

WINDOW = 4
"""Messages on their way to a reader before the sender waits."""


class MemoryNetwork:
    """What lies between the nodes: who is where, and what happens to bytes under way.

    All knobs may be turned at any time: `loss` is the share of datagrams that vanish, `delay` and `jitter`
    are seconds one way (at least `delay`, at most both together), and `is_cut` says of two addresses whether
    the path between them is broken, which loses datagrams and breaks streams.
    """

    def __init__(self, rng: random.Random, *, loss: float = 0.0, delay: float = 0.0, jitter: float = 0.0) -> None:
        self.loss, self.delay, self.jitter = loss, delay, jitter
        self.is_cut: Callable[[Address, Address], bool] = lambda source, destination: False
        self._rng = rng
        self._nodes: dict[Address, MemoryTransport] = {}
        self._next_port = 10_000

    def join(self, node: MemoryTransport, host: str) -> Address:
        """Give a node an address."""
        self._next_port += 1
        address = Address(host, self._next_port)
        self._nodes[address] = node
        return address

    def leave(self, address: Address) -> None:
        """Take an address back."""
        del self._nodes[address]

    def find(self, source: Address, destination: Address) -> MemoryTransport | None:
        """Return the node at an address, if a path leads there."""
        return None if self.is_cut(source, destination) else self._nodes.get(destination)

    def is_lucky(self) -> bool:
        """Say whether the next datagram survives."""
        return self._rng.random() >= self.loss

    def latency(self) -> float:
        """Return the seconds that the next bytes take."""
        return self.delay + self.jitter * self._rng.random()


class MemoryTransport(Transport):
    """One node's access to a memory network."""

    def __init__(self, network: MemoryNetwork, host: str = "127.0.0.1") -> None:
        self.network, self._at = network, host
        self.host: TransportHost | None = None
        self.address = Address(host, 0)
        self.streams: set[MemoryStream] = set()

    async def start(self, host: TransportHost) -> int:
        self.host = host
        self.address = self.network.join(self, self._at)
        return self.address.port

    def send(self, datagram: bytes, destination: Address) -> None:
        if self.host is None:
            return
        if len(datagram) > MAX_DATAGRAM:
            self.host.dropped(Drop.OVERSIZED)
        elif self.network.is_lucky() and self.network.find(self.address, destination) is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self.network.latency(), self._deliver, datagram, self.address, destination)

    def _deliver(self, datagram: bytes, source: Address, destination: Address) -> None:
        node = self.network.find(source, destination)
        if node is not None and node.host is not None:
            node.host.datagram_received(datagram, source)

    async def connect(self, address: Address) -> Stream:
        if self.host is None:
            raise TransportError(f"cannot reach {address}: the transport is not running")
        await asyncio.sleep(2 * self.network.latency())
        node = self.network.find(self.address, address)
        if node is None or node.host is None or self.host is None:
            raise TransportError(f"cannot reach {address}: nobody listens there")
        reason = _refusal(self.host, node.host)
        if reason is not None:
            node.host.dropped(reason)
            raise TransportError(f"{address} refused this node")
        near, far = MemoryStream(self, node), MemoryStream(node, self)
        near.other, far.other = far, near
        node.host.stream_accepted(far)
        return near

    async def close(self) -> None:
        if self.host is not None:
            self.network.leave(self.address)
            self.host = None
        for stream in tuple(self.streams):
            await stream.close()


def _refusal(client: TransportHost, server: TransportHost) -> str | None:
    if client.identity.peer_id == server.identity.peer_id:
        return Drop.LOOPED
    *_, join = offered = client.network_keys()
    accepted = {key.label: _proof(key) for key in server.network_keys()}
    for key in (offered[0], join):
        if key.label in accepted:
            return None if accepted[key.label] == _proof(key) else Drop.STRANGER
    return Drop.UNKNOWN_KEY


def _proof(key: NetworkKey) -> bytes:
    return key.derive("memory transport")


class MemoryStream(Stream):
    """One end of a stream. It holds what is on its way to its reader."""

    other: MemoryStream

    def __init__(self, mine: MemoryTransport, theirs: MemoryTransport) -> None:
        assert theirs.host is not None
        self.peer: PeerId = theirs.host.identity.peer_id
        self.address = theirs.address
        self._mine = mine
        self._coming: deque[bytes | None] = deque()  # None is the end
        self._arrived: deque[bytes] = deque()
        self._last_arrival = 0.0
        self._has_ended = False
        self._changed = asyncio.Event()
        mine.streams.add(self)

    async def send(self, message: bytes) -> None:
        if len(message) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(message)} bytes is over the limit of {MAX_MESSAGE}")
        while not self._has_ended and self.other._is_full():
            await self.other._change()
        if self._mine.network.is_cut(self._mine.address, self.address):
            self._end()
            self.other._end()
        if self._has_ended:
            raise self._gone()
        self.other._expect(message)

    async def receive(self) -> bytes:
        while not self._arrived:
            if self._has_ended:
                raise self._gone()
            await self._change()
        self._changed.set()
        return self._arrived.popleft()

    async def close(self) -> None:
        if not self._has_ended:
            self._arrived.clear()
            self._end()
            self.other._expect(None)

    def _is_full(self) -> bool:
        return len(self._coming) + len(self._arrived) >= WINDOW

    def _expect(self, message: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        # What is sent later never overtakes: the network delays a stream and does not reorder it.
        self._last_arrival = max(self._last_arrival, loop.time() + self._mine.network.latency())
        self._coming.append(message)
        loop.call_at(self._last_arrival, self._arrive)

    def _arrive(self) -> None:
        message = self._coming.popleft()
        if message is None:
            self._end()
        elif not self._has_ended:
            self._arrived.append(message)
            self._changed.set()

    def _end(self) -> None:
        self._has_ended = True
        self._mine.streams.discard(self)
        self._changed.set()
        self.other._changed.set()  # a sender waits there for room

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _gone(self) -> TransportError:
        return TransportError(f"the stream to {self.peer.short} at {self.address} has ended")
