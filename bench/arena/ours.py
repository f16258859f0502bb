"""Our agents: `python -m kairos_core.testing.gossiper`, driven by lines of JSON."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path
from typing import Any

from arena.agents import Agent, State
from arena.namespace import Ports
from kairos_core.protocol.token import format_token, new_token

OURS = Ports("ours", 20000, 20999)
VALUE = 32
"""Bytes in the value of an update, and in the payload of serf's event."""


def fresh_token() -> str:
    """Return the token of a new network."""
    return format_token(new_token(secrets.choice))


class Gossiper(Agent):
    """One of ours."""

    def __init__(self, number: int, token: str, entries: Path | None = None) -> None:
        super().__init__(number)
        self.address = f"127.0.0.1:{OURS.of(number)}"
        self.restored = 0.0
        self._wish = {"token": token, "transport": "kairos_transport_tls", "host": "127.0.0.1"}
        self._entries = entries
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._asks = 0
        self._reading: asyncio.Task[None]

    async def start(self) -> None:
        words = [sys.executable, "-m", "kairos_core.testing.gossiper"]
        self.process = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE)
        entries = str(self._entries) if self._entries else None
        self._say({**self._wish, "port": OURS.of(self.number), "entries": entries})
        ready = json.loads(await self._lines.readline())
        self.name, self.restored = ready["ready"], ready["seconds"]
        self._reading = asyncio.create_task(self._read())

    async def join(self, seed: Agent) -> None:
        assert isinstance(seed, Gossiper)
        self._say({"join": [seed.address]})

    async def write(self, update: str) -> None:
        self.put(f"update-{self.number}", update.ljust(VALUE, "."))

    def put(self, key: str, value: str) -> None:
        """Write an entry."""
        self._say({"write": key, "value": value})

    async def state(self) -> State:
        answer = await self.ask()
        return State(answer["alive"], frozenset(answer["dead"]))

    async def ask(self) -> dict[str, Any]:
        """Ask for all that it says of itself."""
        self._asks += 1
        answer = self._asked[self._asks] = asyncio.get_running_loop().create_future()
        self._say({"ask": self._asks})
        return await asyncio.wait_for(answer, 60.0)

    async def kill(self) -> None:
        await super().kill()
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading

    @property
    def _lines(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None
        return self.process.stdout

    def _say(self, words: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words).encode() + b"\n")

    async def _read(self) -> None:
        while line := await self._lines.readline():
            match json.loads(line):
                case {"update": str(update)}:
                    self.arrived(update.rstrip("."))
                case {"answer": number, **rest}:
                    if not (asked := self._asked.pop(number)).done():
                        asked.set_result(rest)
