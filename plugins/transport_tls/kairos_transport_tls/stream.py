"""A stream: whole messages over one TLS connection, and the greeting that opens it.

With TLS 1.3 a client counts its handshake as done before the server has looked at its certificate, so a
refusal shows only at the first read. Hence both sides greet: the client at once, the server when it has taken
the stream. A greeting is one frame that begins with `kairos/1`; what follows is for later versions.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from kairos_core import MAX_MESSAGE, Address, Drop, PeerId, ProtocolError, Stream, TransportError
from kairos_transport_tls.authority import peer_of
from kairos_transport_tls.contexts import ALPN
from kairos_transport_tls.frames import FrameDecoder, encode_frame

GREETING = b"kairos/1"
MAX_GREETING = 256
"""Bytes in a greeting. Who has not greeted yet cannot make us hold more than this."""

CLOSE_TIME = 2.0
"""Seconds for what was sent last to leave when a stream closes. More waits longer for a stuck peer."""

_READ = 1 << 16
_DEAD_AFTER = 20.0
"""Seconds of silence of the peer's machine until a stream breaks. Less breaks it in shorter outages."""


class Lane(asyncio.StreamReaderProtocol):
    """asyncio's reader and writer of one connection, which tells when the connection is lost."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader(limit=_READ)
        super().__init__(self.reader)
        self.writer: asyncio.StreamWriter | None = None
        self.is_lost = False
        self.when_lost: Callable[[], object] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self.writer = asyncio.StreamWriter(transport, self, self.reader, asyncio.get_running_loop())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.is_lost = True
        self.when_lost()

    def abort(self) -> None:
        """End the connection at once; what was not sent yet is lost."""
        if self.writer is not None:
            self.writer.transport.abort()


class TlsStream(Stream):
    """A stream to one peer. One task may receive, any number may send."""

    def __init__(self, lane: Lane, address: Address) -> None:
        """Take a connection whose handshake is done. Raises ProtocolError (stranger, bad_hello)."""
        assert lane.writer is not None
        self.address = address
        self._lane, self._reader, self._writer = lane, lane.reader, lane.writer
        self._decoder = FrameDecoder(MAX_GREETING)
        tls = self._writer.get_extra_info("ssl_object")
        assert isinstance(tls, ssl.SSLObject)
        self.peer: PeerId = peer_of(tls.getpeercert(binary_form=True))
        if tls.selected_alpn_protocol() != ALPN:
            raise ProtocolError(Drop.BAD_HELLO, f"the protocol is not {ALPN}")
        _notice_death(self._writer.get_extra_info("socket"))

    def __repr__(self) -> str:
        return f"TlsStream({self.peer.short} at {self.address})"

    def when_lost(self, call: Callable[[], object]) -> None:
        """Call a function once the connection is gone, for whatever reason; at once if it is gone already."""
        if self._lane.is_lost:
            call()
        self._lane.when_lost = call

    async def greet(self) -> None:
        """Send our greeting. Raises TransportError."""
        await self.send(GREETING)

    async def greeted(self) -> None:
        """Wait for the peer's greeting. Raises TransportError, ProtocolError (bad_hello)."""
        try:
            greeting = await self.receive()
        except ProtocolError:
            raise ProtocolError(Drop.BAD_HELLO, f"a greeting of more than {MAX_GREETING} bytes") from None
        if not greeting.startswith(GREETING):
            raise ProtocolError(Drop.BAD_HELLO, f"it does not begin with {GREETING.decode()}")
        self._decoder.limit = MAX_MESSAGE

    async def send(self, message: bytes) -> None:
        frame = encode_frame(message)
        if self._writer.is_closing():
            raise self._gone("it was closed")
        try:
            self._writer.write(frame)
            await self._writer.drain()
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from error

    async def receive(self) -> bytes:
        try:
            while (message := self._decoder.next_message()) is None:
                self._decoder.receive_data(await self._read())
        except ProtocolError:
            self._lane.abort()  # where the next message would begin is unknown now
            raise
        return message

    async def _read(self) -> bytes:
        try:
            data = await self._reader.read(_READ)
        except OSError as error:
            raise self._gone(error.strerror or str(error)) from error
        if not data:
            raise self._gone("it left in the middle of a message" if self._decoder.is_inside_message else "it closed")
        return data

    def _gone(self, why: str) -> TransportError:
        return TransportError(f"the stream to {self.peer.short} at {self.address} has ended: {why}")

    async def close(self) -> None:
        with contextlib.suppress(OSError):
            self._writer.close()
            try:
                async with asyncio.timeout(CLOSE_TIME):
                    await self._writer.wait_closed()
            except TimeoutError:
                self._lane.abort()


def _notice_death(connection: socket.socket) -> None:
    # A machine that loses power says no goodbye. Unanswered data and unanswered probes both end the stream.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(_DEAD_AFTER / 2))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, int(_DEAD_AFTER / 4))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_DEAD_AFTER * 1000))
