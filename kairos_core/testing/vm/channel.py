"""Requests to QEMU and to the guest agent in a machine: one line of JSON each way, over a unix socket.

Source: QEMU's "QMP protocol specification" and "QEMU guest agent protocol reference"; both speak the same.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import Any

from kairos_core.testing.lab import LabError

MAX_LINE = 64 << 20
"""Bytes of one answer: what a command printed comes as a whole."""


class Channel:
    """A connection to one of the two. Requests are answered in order, so there is one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Connect, anew if there was a connection. Raises LabError while nobody listens."""
        self.close()
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(self._path, limit=MAX_LINE)
        except OSError as error:
            raise LabError(f"no connection with {self._path.name} of {self._path.parent.name}: {error}") from None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def ask(self, command: str, timeout: float = 60.0, **arguments: Any) -> Any:
        """Send a request and return what the answer holds. Raises LabError for a refusal or after `timeout`."""
        async with self._turn:
            try:
                async with asyncio.timeout(timeout):
                    await self._send({"execute": command, "arguments": arguments})
                    while True:
                        answer = await self._receive()
                        if "error" in answer:
                            raise LabError(f"{self._path.name}: {command}: {answer['error'].get('desc')}")
                        if "return" in answer:  # else an event or a greeting
                            return answer["return"]
            except TimeoutError:
                raise LabError(f"{self._path}: {command}: no answer within {timeout:g} s") from None

    async def synchronise(self, timeout: float) -> None:
        """Wait until a guest agent answers, and skip what it had to say to others. Raises LabError."""
        async with self._turn:
            number = secrets.randbits(31)
            try:
                async with asyncio.timeout(timeout):
                    # The byte 0xFF ends whatever half of a request the agent has, and begins its answer.
                    await self._send({"execute": "guest-sync-delimited", "arguments": {"id": number}}, b"\xff")
                    while (await self._receive()).get("return") != number:
                        pass
            except TimeoutError:
                raise LabError(f"{self._path.parent.name} does not answer within {timeout:g} s") from None

    async def _send(self, request: dict[str, Any], before: bytes = b"") -> None:
        if self._writer is None:
            raise LabError(f"{self._path.parent.name} is switched off")
        self._writer.write(before + json.dumps(request).encode() + b"\n")
        await self._writer.drain()

    async def _receive(self) -> dict[str, Any]:
        if self._reader is None:
            raise LabError(f"{self._path.parent.name} is switched off")
        line = await self._reader.readline()
        if not line:
            raise LabError(f"{self._path.parent.name} has closed {self._path.name}")
        try:
            answer = json.loads(line.rpartition(b"\xff")[2])
        except ValueError:  # the rest of an answer that a reset cut off
            return {}
        return answer if isinstance(answer, dict) else {}
