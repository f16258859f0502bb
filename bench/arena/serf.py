"""serf's agents (https://www.serf.io, the Debian package `serf`), driven by their RPC (serf/docs/agent/rpc).

LAN profile, encrypted, all else as it is by default. Events are not coalesced, which would hold them back.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
from asyncio.subprocess import DEVNULL
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack

from arena.agents import Agent, State
from arena.namespace import Ports
from arena.ours import VALUE

SERF = Ports("serf", 30000, 30999)
_RPC = 31000


def fresh_key() -> str:
    """Return the key of a new network."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


class Serf(Agent):
    """One of serf's."""

    def __init__(self, number: int, key: str, directory: Path) -> None:
        super().__init__(number)
        self.name = f"s{number}"
        self.bind = f"127.0.0.1:{SERF.of(number)}"
        self._key, self._file = key, directory / f"{self.name}.json"
        self._sequence = 0
        self._with_body: dict[int, bool] = {}
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._stream = -1
        self._reading: asyncio.Task[None]

    async def start(self) -> None:
        settings = {
            "node_name": self.name, "bind": self.bind, "rpc_addr": f"127.0.0.1:{_RPC + self.number}",
            "encrypt_key": self._key, "profile": "lan", "log_level": "err",
        }  # fmt: skip
        with os.fdopen(os.open(self._file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            json.dump(settings, file)
        words = ["serf", "agent", f"-config-file={self._file}"]
        self.process = await asyncio.create_subprocess_exec(*words, stdin=DEVNULL, stdout=DEVNULL)
        reader, self._writer = await self._connected()
        self._reading = asyncio.create_task(self._read(reader))
        await self._call("handshake", {"Version": 1})
        self._stream = self._sequence + 1
        await self._call("stream", {"Type": "user"})

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self.process.returncode is None:
            with suppress(ConnectionRefusedError):
                return await asyncio.open_connection("127.0.0.1", _RPC + self.number)
            await asyncio.sleep(0.05)
        raise RuntimeError(f"serf ended with {self.process.returncode}")

    async def join(self, seed: Agent) -> None:
        assert isinstance(seed, Serf)
        # Its answer comes when the first exchange of states is over; with loss that may fail, so once more.
        asyncio.get_running_loop().create_task(self._join(seed.bind))

    async def _join(self, bind: str) -> None:
        while self.process.returncode is None:
            with suppress(RuntimeError, TimeoutError):
                await self._call("join", {"Existing": [bind], "Replay": False}, has_body=True)
                return
            await asyncio.sleep(1.0)

    async def write(self, update: str) -> None:
        await self._call("event", {"Name": update, "Payload": b"." * (VALUE - len(update)), "Coalesce": False})

    async def state(self) -> State:
        counts = (await self._call("stats", {}, has_body=True))["serf"]
        failed = int(counts["failed"])
        alive = int(counts["members"]) - failed - int(counts["left"])
        if not failed:
            return State(alive, frozenset())
        found = await self._call("members-filtered", {"Tags": {}, "Status": "failed", "Name": ""}, has_body=True)
        return State(alive, frozenset(member["Name"] for member in found["Members"]))

    async def kill(self) -> None:
        await super().kill()
        self._writer.close()
        self._reading.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await self._reading

    async def _call(self, command: str, body: dict[str, Any], *, has_body: bool = False) -> Any:
        self._sequence += 1
        number = self._sequence
        self._with_body[number] = has_body
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        head = {"Command": command, "Seq": number}
        words = [msgpack.packb(part, use_bin_type=False) for part in (head, body)]
        self._writer.write(b"".join(words[:1] if command == "stats" else words))
        return await asyncio.wait_for(answer, 60.0)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        # Old msgpack: addresses and names are both `raw`; only names are looked at.
        unpacker = msgpack.Unpacker(raw=False, unicode_errors="surrogateescape", strict_map_key=False)
        head: dict[str, Any] | None = None
        while data := await reader.read(1 << 16):
            unpacker.feed(data)
            for part in unpacker:
                if head is not None:
                    self._answered(head, part)
                    head = None
                elif self._has_body(part):
                    head = part
                else:
                    self._answered(part, None)

    def _has_body(self, head: dict[str, Any]) -> bool:
        is_event = head["Seq"] == self._stream and head["Seq"] not in self._asked
        return is_event or (self._with_body.pop(head["Seq"], False) and not head["Error"])

    def _answered(self, head: dict[str, Any], body: Any) -> None:
        answer = self._asked.pop(head["Seq"], None)
        if answer is None:
            if body and body.get("Event") == "user":
                self.arrived(body["Name"])
        elif answer.done():
            return
        elif head["Error"]:
            answer.set_exception(RuntimeError(head["Error"]))
        else:
            answer.set_result(body)
