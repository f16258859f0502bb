"""A node's gossip alone, in a process of its own, to be measured: `python -m kairos_core.testing.gossiper`.

Gossip, ledger, pump, sessions and transport are a node's; API, engine, networks, discovery and store are left out.
It speaks lines of JSON, so that no secret is an argument. The first one in says who it is and where it listens:

    {"token": …, "transport": "kairos_transport_tls", "host": "127.0.0.1", "port": 20000, "entries": FILE or null}

and is answered by `{"ready": PEER ID, "seconds": s}`, s being what restoring the entries of the file took. Then

    {"join": ["127.0.0.1:20001"]}        dial these until one of them answers
    {"write": KEY, "value": TEXT}        let an entry of ours stand in the bucket `values`
    {"ask": NUMBER}                      answered by {"answer": NUMBER, "alive": …, "dead": […], "digest": …, …}

and each entry of that bucket whose key begins with `update` is told, as it arrives: `{"update": TEXT}`. The process
ends when its input does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import secrets
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from random import SystemRandom
from typing import Any

import msgpack

from kairos_core.interfaces import LedgerStore, StoreBatch, Transport
from kairos_core.model import Address
from kairos_core.protocol.buckets import PEERS, VALUES
from kairos_core.protocol.gossip import Gossip
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Ledger
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.token import parse_token
from kairos_core.runtime.clock import NetworkTime
from kairos_core.runtime.hosts import NodeTransportHost
from kairos_core.runtime.pump import Pump
from kairos_core.runtime.sessions import Sessions

DIAL_AGAIN = 5.0
"""Seconds between looks at the seeds, as in a node."""

UPDATE = "update"
"""How the keys begin whose entries are told."""


class FileStore(LedgerStore):
    """Loads entries from a file (a msgpack array of raw entries) and saves nothing."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def load(self) -> Iterable[bytes]:
        return list(msgpack.unpackb(self._file.read_bytes()))

    def save(self, batch: StoreBatch) -> None:
        """Forget it: what is measured is the gossip."""

    def close(self) -> None:
        """Nothing is open."""


def make_transport(module: str, host: str, port: int) -> Transport:
    """Make the transport that a plugin's module offers, without a look at other plugins.

    Reading the metadata of all that is installed would cost each process 2 MB.
    """
    made: list[Transport] = []

    def register(_name: str, factory: Any, *, settings: Any, **_: object) -> None:
        made.append(factory(settings(listen=(host,), port=port)))

    import_module(module).register_transport(register)
    return made[0]


class Gossiper:
    """One node's gossip, driven by lines of JSON."""

    def __init__(self, wish: dict[str, Any]) -> None:
        keyring = Keyring(parse_token(wish["token"]))
        identity = Identity(secrets.token_bytes(32))
        clock = NetworkTime()
        self._own = Address(wish["host"], wish["port"])
        self._transport = make_transport(wish["transport"], wish["host"], wish["port"])
        gossip = Gossip(identity, keyring, Ledger(keyring.network), SystemRandom())
        store = FileStore(Path(wish["entries"])) if wish.get("entries") else None
        self.pump = Pump(gossip, self._transport, store, clock)
        self._host = NodeTransportHost(identity, keyring, gossip.drops, clock)
        self._host.receive = self.pump.receive
        self._sessions: Sessions

    async def run(self, lines: asyncio.StreamReader) -> None:
        """Listen, and obey the lines until they end."""
        began = time.monotonic()
        await self.pump.restore()
        took = time.monotonic() - began
        port = await self._transport.start(self._host)
        self._sessions = Sessions(self.pump, self._transport, port)
        self._host.accept, self.pump.sync_wanted = self._sessions.accept, self._sessions.reconcile
        self.pump.publish(PEERS, str(self.pump.me), {"name": str(self._own), "addresses": [str(self._own)]})
        tasks = [asyncio.create_task(self.pump.run()), asyncio.create_task(self._tell())]
        gc.collect()
        gc.freeze()  # what the imports made stays for good; the collector need not look at it again
        say({"ready": str(self.pump.me), "seconds": took})
        try:
            while line := await lines.readline():
                self._obey(json.loads(line), tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._sessions.close()
            await self._transport.close()

    def _obey(self, order: dict[str, Any], tasks: list[asyncio.Task[None]]) -> None:
        match order:
            case {"join": seeds}:
                tasks.append(asyncio.create_task(self._dial([Address.parse(seed) for seed in seeds])))
            case {"write": key, "value": value}:
                self.pump.publish(VALUES, key, value)
            case {"ask": number}:
                say({"answer": number, **self._state()})

    def _state(self) -> dict[str, Any]:
        members = self.pump.gossip.membership.members.values()
        return {
            "alive": 1 + sum(member.alive for member in members),
            "dead": [str(member.peer) for member in members if not member.alive],
            "digest": self.pump.ledger.digest.hex(),
            "entries": len(self.pump.ledger),
            "drops": dict(self.pump.gossip.drops),
        }

    async def _dial(self, seeds: list[Address]) -> None:
        while True:
            for seed in seeds:
                self._sessions.found(seed)
            await asyncio.sleep(DIAL_AGAIN)

    async def _tell(self) -> None:
        async for entry in self.pump.watch():
            if entry.bucket == VALUES and entry.key.startswith(UPDATE) and entry.author != self.pump.me:
                say({"update": entry.content})


def say(words: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Run one gossiper on the standard input and output."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await Gossiper(json.loads(await lines.readline())).run(lines)


if __name__ == "__main__":
    asyncio.run(main())
