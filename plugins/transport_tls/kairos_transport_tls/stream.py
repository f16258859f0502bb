"""A stream: whole messages over one TLS connection, and the greeting that opens it.

With TLS 1.3 a client counts its handshake as done before the server has looked at its certificate, so a
refusal shows only at the first read. Hence both sides greet: the client at once, the server when it has taken
the stream. A greeting is one frame that begins with `kairos/1`; what follows is for later versions.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable

from kairos_core import MAX_MESSAGE, Address, Drop, PeerId, ProtocolError, Stream, TransportError
from kairos_transport_tls.authority import peer_of
from kairos_transport_tls.contexts import ALPN
from kairos_transport_tls.frames import FrameDecoder, encode_frame
from kairos_transport_tls.lane import CLOSE_TIME, READ, Lane

GREETING = b"kairos/1"
MAX_GREETING = 256
"""Bytes in a greeting. Who has not greeted yet cannot make us hold more than this."""


class TlsStream(Stream):
    """A stream to one peer. One task may receive, any number may send."""

    def __init__(self, lane: Lane, address: Address) -> None:
        """Take a connection whose handshake is done. Raises ProtocolError (stranger, bad_hello)."""
        self.address = address
        self._lane, self._reader, self._writer = lane, lane.reader, lane.writer
        self._decoder = FrameDecoder(MAX_GREETING)
        self._is_broken = False
        tls = self._writer.get_extra_info("ssl_object")
        assert isinstance(tls, ssl.SSLObject)
        self.peer: PeerId = peer_of(tls.getpeercert(binary_form=True))
        if tls.selected_alpn_protocol() != ALPN:
            raise ProtocolError(Drop.BAD_HELLO, f"the protocol is not {ALPN}")

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
        if self._is_broken:
            raise self._gone("a message was over the limit")
        try:
            while (message := self._decoder.next_message()) is None:
                self._decoder.receive_data(await self._read())
        except ProtocolError:
            self._is_broken = True  # where the next message would begin is unknown now
            self._lane.abort()
            raise
        return message

    async def _read(self) -> bytes:
        try:
            data = await self._reader.read(READ)
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
