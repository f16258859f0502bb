"""A fake node behind the real API server, in a thread: for tests of commands and other clients of the API."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kairos_core.api.endpoint import Endpoint
from kairos_core.api.server import Listen, Served, serving
from kairos_core.testing.control import FakeControl


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a typed error."""
        return str(self.json["error"]["code"])


@dataclass(frozen=True, slots=True)
class ServedNode:
    """A `FakeControl` that is served at a unix socket and on a port of loopback."""

    control: FakeControl
    listen: Listen
    served: Served
    stop: threading.Event

    @property
    def unix(self) -> str:
        """The endpoint of the unix socket, as --api takes it."""
        return f"unix://{self.listen.socket}"

    @property
    def tcp(self) -> str:
        """The endpoint of the TCP port."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The TCP port."""
        assert self.served.port is not None
        return self.served.port

    @property
    def token(self) -> str:
        """The bearer token for TCP."""
        return self.listen.token_file.read_text().strip()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        tcp: bool = False,
    ) -> Answer:
        """Send one request, over the unix socket or TCP, and return the answer."""
        with closing(Endpoint.parse(self.tcp if tcp else self.unix).connection(10)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )

    def get(self, path: str) -> Any:
        """Return the JSON at a path, which must be there."""
        answer = self.ask("GET", path)
        assert answer.status == 200, answer.body
        return answer.json


@contextmanager
def served_node(directory: Path) -> Iterator[ServedNode]:
    """Serve a fresh `FakeControl` in a thread, with socket and token file in a directory, while the context lasts."""
    listen = Listen(directory / "run" / "api.sock", ("127.0.0.1", 0), directory / "run" / "api.token")
    control, ready, stop = FakeControl(), threading.Event(), threading.Event()
    outcome: list[Served | BaseException] = []

    async def serve() -> None:
        async with serving(control, listen) as served:
            outcome.append(served)
            ready.set()
            await asyncio.to_thread(stop.wait)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            outcome.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="served node")
    thread.start()
    try:
        ready.wait()
        if isinstance(outcome[0], Served):
            yield ServedNode(control, listen, outcome[0], stop)
    finally:
        stop.set()
        thread.join()
    if isinstance(outcome[-1], BaseException):
        raise outcome[-1]
