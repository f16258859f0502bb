"""A real server on a real unix socket and a TCP port of loopback, in a thread, over a node that is only its Control."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kairos_core.api.endpoint import Endpoint
from kairos_core.api.server import Listen, Served, serving
from kairos_core.testing.control import FakeControl


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


@dataclass
class Agent:
    control: FakeControl
    listen: Listen
    served: Served | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def port(self) -> int:
        assert self.served is not None
        assert self.served.port is not None
        return self.served.port

    @property
    def unix(self) -> str:
        return f"unix://{self.listen.socket}"

    @property
    def tcp(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
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
        connection = Endpoint.parse(self.tcp if tcp else self.unix).connection(10)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Any:
        answer = self.ask("GET", path, **options)
        assert answer.status == 200, answer.body
        return answer.json

    async def serve(self, ready: threading.Event) -> None:
        self.loop = asyncio.get_running_loop()
        async with serving(self.control, self.listen) as self.served:
            ready.set()
            await self.stop.wait()

    def close(self) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(self.stop.set)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    yield from running_agent(tmp_path)


@pytest.fixture(scope="module")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One agent for many requests: for tests that leave it as they found it."""
    yield from running_agent(tmp_path_factory.mktemp("agent"))


def running_agent(directory: Path) -> Iterator[Agent]:
    listen = Listen(directory / "run" / "api.sock", ("127.0.0.1", 0), directory / "run" / "api.token")
    agent, ready = Agent(FakeControl(), listen), threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(agent.serve(ready))
        except BaseException as error:
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    if not failures:
        try:
            yield agent
        finally:
            agent.close()
            thread.join(10)
    assert not thread.is_alive(), "the server did not stop"
    if failures:
        raise failures[0]
