"""One HTTP connection: uvicorn's, with what it lacks: a time limit for requests, and where the request came from."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

SLOW_REQUEST = 15.0
"""Seconds in which a whole request must arrive (the attack: Slowloris, connections that never finish a request).

Raising it lets slow clients hold connections for longer; a request from a node's own machine takes milliseconds.
"""

MAX_HEAD = 16 * 1024
"""Bytes in a request line with its headers. Raising it lets each connection hold more memory."""

MAX_CONNECTIONS = 128
"""TCP connections at a time; more are closed at once (the attack: another user of this machine takes them all).

Raising it costs file descriptors that the node needs too. The unix socket, which is root's, has no limit, so that
the commands always come through.
"""


class Connection(H11Protocol):
    """An HTTP/1.1 connection with a deadline. `scope["state"]["local"]` is True on a unix socket."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the kind of socket, and give the first request its time."""
        transport = cast("asyncio.Transport", transport)  # of a stream, as the server makes it
        sock = transport.get_extra_info("socket")
        self.app_state = {"local": sock is not None and sock.family == socket.AF_UNIX}
        super().connection_made(transport)
        self._watch_request()
        if not self.is_local and sum(not each.is_local for each in self._others()) >= MAX_CONNECTIONS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._finish_request()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a request that is not whole by now has a deadline, which further bytes do not move."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._watch_request()
        else:
            self._finish_request()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP; a response already on its way is cut off instead."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = json.dumps({"error": {"code": "bad_request", "message": msg}}).encode()
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    @property
    def is_local(self) -> bool:
        """Say whether this connection came through the unix socket."""
        return self.app_state["local"] is True

    def _others(self) -> Iterator[Connection]:
        return (each for each in self.connections if isinstance(each, Connection) and each is not self)

    def _watch_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(SLOW_REQUEST, self.transport.abort)

    def _finish_request(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
