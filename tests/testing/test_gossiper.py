"""The gossiper, as a real process: it meets, spreads, notices a death, and ends with its input."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from kairos_core.interfaces import StoreBatch
from kairos_core.protocol.token import format_token, new_token
from kairos_core.testing.gossiper import FileStore
from kairos_core.testing.machines import free_port


class Gossiper:
    def __init__(self, process: Process, port: int) -> None:
        self.process, self.address, self.name = process, f"127.0.0.1:{port}", ""

    def say(self, **words: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words).encode() + b"\n")

    async def heard(self, name: str) -> dict[str, Any]:
        """Return the next line that has this key; others are passed over."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            words: dict[str, Any] = json.loads(line)
            if name in words:
                return words
        raise AssertionError(f"it ended without a word of {name}")

    async def state_in_which(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        async with asyncio.timeout(60.0):
            while True:
                self.say(ask=1)
                if is_so(state := await self.heard("answer")):
                    return state
                await asyncio.sleep(0.05)


@asynccontextmanager
async def gossipers(count: int) -> AsyncIterator[list[Gossiper]]:
    token = format_token(new_token(secrets.choice))
    started: list[Gossiper] = []
    try:
        for _ in range(count):
            words = [sys.executable, "-m", "kairos_core.testing.gossiper"]
            process = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stdout=PIPE)
            started.append(Gossiper(process, free_port(socket.SOCK_DGRAM)))
            host, port = started[-1].address.split(":")
            started[-1].say(token=token, transport="kairos_transport_tls", host=host, port=int(port), entries=None)
            started[-1].name = (await started[-1].heard("ready"))["ready"]
        yield started
    finally:
        for each in started:
            if each.process.returncode is None:
                each.process.kill()
            await each.process.wait()


def test_the_entries_of_its_file_are_loaded_and_nothing_is_saved(tmp_path: Path) -> None:
    file = tmp_path / "entries"
    file.write_bytes(msgpack.packb([b"one", b"two"]))
    store = FileStore(file)
    store.save(StoreBatch(put=(("values", "three", b"three"),)))
    assert list(store.load()) == [b"one", b"two"]


@pytest.mark.system
async def test_what_one_writes_the_others_tell_and_its_death_is_known() -> None:
    async with gossipers(3) as (one, two, three):
        for each in (two, three):
            each.say(join=[one.address])
        for each in (one, two, three):
            await each.state_in_which(lambda state: state["alive"] == 3)
        one.say(write="update-1", value="hello")
        for each in (two, three):
            assert await each.heard("update") == {"update": "hello"}
        one.process.kill()
        for each in (two, three):
            await each.state_in_which(lambda state: state["dead"] == [one.name])


@pytest.mark.system
async def test_it_ends_with_its_input() -> None:
    async with gossipers(1) as (alone,):
        assert alone.process.stdin is not None
        alone.process.stdin.close()
        assert await asyncio.wait_for(alone.process.wait(), 10.0) == 0
