"""Streams that peers open: who comes in, and how many. A stranger costs us little and holds nothing."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Sequence
from functools import partial

from kairos_core import Address, Drop, ProtocolError, TransportError, TransportHost
from kairos_transport_tls.contexts import Contexts, Entrance
from kairos_transport_tls.drops import TlsDrop
from kairos_transport_tls.lane import Lane, open_lane
from kairos_transport_tls.sockets import from_kernel
from kairos_transport_tls.stream import TlsStream

HANDSHAKE_TIME = 10.0
"""Seconds for handshake and greeting. Stops a peer that connects and says nothing, or one byte a second.
Raising it lets a slower link in and an idle attacker hold its place longer."""

MAX_HANDSHAKES = 64
"""Unfinished handshakes at once, about 300 kB each. Stops a flood of half-open connections.
The oldest is pushed out by the newest, so to keep a member out an attacker must open 64 in its few ms."""

MAX_STREAMS = 512
"""Streams that peers hold open, about 220 kB each. Stops members from using up our memory and our file
descriptors (1024 is a usual limit)."""

MAX_STREAMS_PER_PEER = 32
"""Streams that one peer holds open. Stops one broken member from taking the places of all others."""

_NOT_A_MEMBER = {"CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE"}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE = 0.5
"""Seconds to wait for a file descriptor to come free; an accept in a tight loop would bring none."""


class Admission:
    """Accepts connections on listening sockets, which it closes in the end; hands over those of members."""

    def __init__(self, host: TransportHost, contexts: Contexts) -> None:
        self._host, self._contexts = host, contexts
        self._inbound: set[TlsStream] = set()
        self._handshakes: dict[asyncio.Task[TlsStream | None], None] = {}  # in the order they came
        self._listening: list[asyncio.Task[None]] = []
        self._sockets: Sequence[socket.socket] = ()

    def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Begin to accept."""
        self._sockets = sockets
        self._listening = [asyncio.create_task(self._accept_from(each)) for each in sockets]

    async def close(self) -> None:
        """Stop listening, let go of unfinished handshakes, close the streams."""
        tasks = [*self._listening, *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in self._sockets:
            each.close()
        await asyncio.gather(*(stream.close() for stream in self._inbound))

    async def _accept_from(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, name = await loop.sock_accept(listener)
            except OSError as error:  # else: it left before we took it
                if error.errno in _EXHAUSTED:
                    self._host.dropped(TlsDrop.NO_DESCRIPTORS)
                    await asyncio.sleep(_PAUSE)
            else:
                self._begin(connection, from_kernel(name))
            # An accept that need not wait does not yield: a flood would keep the loop from everything else.
            await asyncio.sleep(0)

    def _begin(self, connection: socket.socket, source: Address) -> None:
        if len(self._handshakes) >= MAX_HANDSHAKES:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
            self._host.dropped(TlsDrop.CROWDED)
        task = asyncio.create_task(self._receive(connection, source))
        self._handshakes[task] = None
        task.add_done_callback(partial(self._end, connection))

    def _end(self, connection: socket.socket, task: asyncio.Task[TlsStream | None]) -> None:
        self._handshakes.pop(task, None)
        stream = None if task.cancelled() else task.result()
        if stream is None:
            connection.close()  # a task that was cancelled before its first step has not done it
        else:
            self._host.stream_accepted(stream)

    async def _receive(self, connection: socket.socket, source: Address) -> TlsStream | None:
        entrance = self._contexts.enter()
        try:
            async with asyncio.timeout(HANDSHAKE_TIME):
                lane = await _shake_hands(connection, entrance)
                return await self._greet(lane, source)
        except TimeoutError:
            self._host.dropped(Drop.SLOW_PEER)
        except ProtocolError as error:
            self._host.dropped(error.drop)
        except TransportError:
            self._host.dropped(TlsDrop.ABANDONED)
        finally:
            self._contexts.leave(entrance)
        return None

    async def _greet(self, lane: Lane, source: Address) -> TlsStream:
        try:
            stream = TlsStream(lane, source)
            await stream.greeted()
            self._take(stream)
            await stream.greet()
        except BaseException:
            lane.abort()
            raise
        return stream

    def _take(self, stream: TlsStream) -> None:
        if stream.peer == self._host.identity.peer_id:
            raise ProtocolError(Drop.LOOPED, "a stream from ourselves")
        from_this_peer = sum(other.peer == stream.peer for other in self._inbound)
        if len(self._inbound) >= MAX_STREAMS or from_this_peer >= MAX_STREAMS_PER_PEER:
            raise ProtocolError(TlsDrop.TOO_MANY_STREAMS)
        self._inbound.add(stream)
        stream.when_lost(lambda: self._inbound.discard(stream))


async def _shake_hands(connection: socket.socket, entrance: Entrance) -> Lane:
    try:
        return await open_lane(connection, entrance.context, server_name=None)
    except ssl.SSLError as error:
        raise ProtocolError(Drop.STRANGER if error.reason in _NOT_A_MEMBER else entrance.outcome) from error
    except OSError as error:
        raise ProtocolError(entrance.outcome) from error
