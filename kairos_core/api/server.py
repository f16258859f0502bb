"""Serves the API inside the agent's event loop: one uvicorn server on a unix socket, TCP, or both.

The agent keeps its signal handlers, its log set-up and the order in which things stop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from kairos_core.api.app import build_app
from kairos_core.api.connection import MAX_HEAD, Connection
from kairos_core.api.guard import make_guard
from kairos_core.api.listener import inherited_listener, remove_socket, tcp_listener, unix_listener
from kairos_core.errors import ControlError
from kairos_core.runtime.control import Control

GOODBYE = 2
"""Seconds that running requests get when the server stops. Raising it makes a stop take longer."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to serve: a unix socket, a TCP address (port 0: any), or both.

    `token_file` gets the bearer token for TCP, mode 0600. `names` are further host names under which TCP is asked.
    `activation` takes the socket that systemd passed, if it did, in place of the unix socket.
    """

    socket: Path | None = Path("/run/kairos/api.sock")
    tcp: tuple[str, int] | None = None
    token_file: Path = Path("/run/kairos/api.token")
    names: tuple[str, ...] = ()
    activation: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """Where the API is served: what `kairos --api` takes, and the TCP port."""

    endpoints: tuple[str, ...]
    port: int | None


@asynccontextmanager
async def serving(control: Control, listen: Listen) -> AsyncIterator[Served]:
    """Serve the API while the context lasts. Raises ControlError when it cannot listen.

    On the way out event streams end, running requests get `GOODBYE` seconds, and socket and token file are removed.
    """
    with ExitStack() as stack:
        sockets = _open(listen, stack)
        tcp = next((sock for sock in sockets if sock.family != socket.AF_UNIX), None)
        guard = make_guard(listen.token_file, tcp.getsockname()[0] if tcp else None, listen.names)
        if tcp:
            _write_token(listen.token_file, guard.token)
            stack.callback(listen.token_file.unlink, missing_ok=True)
        stopping = asyncio.Event()
        server = _Server(build_app(control, guard, stopping), stopping)
        # A task of its own: the server must not end with whatever cancels the body of the context.
        running = asyncio.create_task(server.serve(sockets=sockets), name="api")
        try:
            await server.wait_started(running)
            yield Served(tuple(map(_endpoint, sockets)), tcp.getsockname()[1] if tcp else None)
        finally:
            stopping.set()
            await running
            await server.finish()


class _Server(uvicorn.Server):
    """Uvicorn's server without its signal handlers, and without its ten wake-ups a second."""

    def __init__(self, app: ASGIApp, stopping: asyncio.Event) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # a header must not say who the client is
            server_header=False,
            date_header=False,  # set by the gate: uvicorn's needs a wake-up each second
            workers=1,
            h11_max_incomplete_event_size=MAX_HEAD,
            timeout_graceful_shutdown=GOODBYE,
        )
        super().__init__(config)
        self._stopping = stopping
        self._ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the agent."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and say so."""
        await super().startup(sockets=sockets)
        self._ready.set()

    async def main_loop(self) -> None:
        """Wait for the end."""
        await self._stopping.wait()

    async def wait_started(self, running: asyncio.Task[None]) -> None:
        """Wait until requests are taken. Raises what made the server fail."""
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ready, running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if running.done():
            running.result()

    async def finish(self) -> None:
        """End what outlived the grace period, so that nothing is pending when the agent's loop closes."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _open(listen: Listen, stack: ExitStack) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    passed = inherited_listener(os.environ) if listen.activation else None
    if passed:
        sockets.append(stack.enter_context(passed))
    elif listen.socket:
        sockets.append(stack.enter_context(unix_listener(listen.socket)))
        stack.callback(remove_socket, listen.socket, listen.socket.lstat())
    if listen.tcp:
        sockets.append(stack.enter_context(tcp_listener(*listen.tcp)))
    if not sockets:
        raise ControlError("the API has nowhere to listen: give it a unix socket or a TCP address.")
    return sockets


def _write_token(path: Path, token: str) -> None:
    """Write the token, readable by us only; whoever reads the file sees a whole token."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "w") as file:
            file.write(token + "\n")
        fresh.rename(path)
    except OSError as error:
        raise ControlError(f"cannot write the API token to {path}: {error.strerror}. Give another path.") from None


def _endpoint(sock: socket.socket) -> str:
    if sock.family == socket.AF_UNIX:
        return f"unix://{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
