"""A connection from its socket to the end of its TLS handshake.

The plain connection is made first and TLS put on it then, though asyncio can do both in one call: that call,
when cancelled in its first turn of the event loop, forgets the socket (its TLS layer ignores a close before
it has begun).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

CLOSE_TIME = 2.0
"""Seconds for what was sent last to leave when a stream closes. More waits longer for a stuck peer."""

READ = 1 << 16
"""Bytes taken from a connection at once. Twice as many wait in memory before a peer is slowed down."""

_DEAD_AFTER = 20.0
"""Seconds of silence of the peer's machine until a stream breaks. Less breaks it in shorter outages."""

_HANDSHAKE_TIME = 60.0
"""Never reached: whoever shakes hands has a shorter deadline of its own, and a name for missing it."""


class Lane(asyncio.StreamReaderProtocol):
    """asyncio's reader and writer of one connection, which tells when the connection is lost."""

    writer: asyncio.StreamWriter

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader(limit=READ)
        super().__init__(self.reader)
        self.is_lost = False
        self.when_lost: Callable[[], object] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self.writer = asyncio.StreamWriter(transport, self, self.reader, asyncio.get_running_loop())

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # TLS has no half-open connections, and it may end before connection_made has told us of it

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.is_lost = True
        self.when_lost()

    def abort(self) -> None:
        """End the connection at once; what was not sent yet is lost."""
        self.writer.transport.abort()


class _Hold(asyncio.Protocol):
    """Leaves the first bytes in the kernel until TLS takes over."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()


async def open_lane(connection: socket.socket, context: ssl.SSLContext, server_name: str | None) -> Lane:
    """Shake hands on a connected socket: as the client of `server_name`, or with None as the server.

    The socket is closed if that fails. Raises OSError (of which ssl.SSLError is a kind).
    """
    _tune(connection)
    loop = asyncio.get_running_loop()
    plain, _ = await loop.create_connection(_Hold, sock=connection)
    lane = Lane()
    try:
        secured = await loop.start_tls(
            plain,
            lane,
            context,
            server_side=server_name is None,
            server_hostname=server_name,
            ssl_handshake_timeout=_HANDSHAKE_TIME,
            ssl_shutdown_timeout=CLOSE_TIME,
        )
    except BaseException:
        plain.abort()
        raise
    if secured is None:
        raise ConnectionAbortedError("it left when the handshake was done")
    lane.connection_made(secured)
    return lane


def _tune(connection: socket.socket) -> None:
    # A handshake and a short message must not wait 40 ms for the acknowledgement of the one before.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A machine that loses power says no goodbye. Unanswered data and unanswered probes both end the stream.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, int(_DEAD_AFTER / 2))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, int(_DEAD_AFTER / 4))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_DEAD_AFTER * 1000))
