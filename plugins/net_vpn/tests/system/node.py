"""One node of the VPN for the system tests, run inside a network namespace.

    python node.py DIRECTORY NUMBER UNDERLAY SETTINGS(JSON)

The ledger is a directory: each node writes what it publishes to `NUMBER.json` and reads the others' files.
How it does goes to `NUMBER.status`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import signal
import sys
from dataclasses import asdict
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from kairos_net_vpn import network, supervisor
from kairos_net_vpn.messages import Stats
from kairos_net_vpn.offloads import Offloads
from kairos_net_vpn.settings import VpnSettings
from kairos_net_vpn.spec import Timing
from kairos_net_vpn.supervisor import Supervisor

from kairos_core import Address, PeerId, PeerLink
from kairos_core.testing.networks import FakeNetworkHost, SharedLedger

network.UPKEEP = 0.2  # counters are read as soon as a test looks


class Watched(Supervisor):
    """Keeps what a test wants to see of the data plane."""

    process: Watched | None = None
    last: Stats | None = None

    async def start(self, heritage: Any = None) -> None:
        Watched.process = self
        await super().start(heritage)

    async def stats(self) -> Stats | None:
        Watched.last = await super().stats()
        return Watched.last


def write(path: Path, document: Any) -> None:
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(document))
    os.replace(scratch, path)


class FileHost(FakeNetworkHost):
    """A host whose own entries go to a file."""

    file: Path
    underlay: str
    speaks_records: bool

    def publish(self, topic: str, value: Any) -> None:
        if not self.speaks_records:
            value = {name: field for name, field in value.items() if name != "records"}
        super().publish(topic, value)
        self.save(topic)

    def save(self, topic: str) -> None:
        value = dict(self.published(topic)[self.identity.peer_id])
        value["key"] = base64.b64encode(value["key"]).decode()
        holds = [str(address) for pool in self.ledger.leases.values() for address, holder in pool.items()
                 if holder == self.identity.peer_id]  # fmt: skip
        document = {
            "peer": str(self.identity.peer_id),
            "underlay": self.underlay,
            "leases": holds,
            "vpn": value,
        }
        write(self.file, document)


async def read_others(host: FileHost, settings: VpnSettings) -> None:
    """Take what the others wrote, whenever it has changed."""
    seen: dict[Path, str] = {}
    while True:
        for path in host.file.parent.glob("*.json"):
            alive = not path.with_suffix(".dead").exists()  # what gossip would have found out
            text = f"{alive}{path.read_text()}"
            if path != host.file and seen.get(path) != text:
                seen[path] = text
                take(host.ledger, json.loads(text.removeprefix(str(alive))), settings, alive=alive)
        await asyncio.sleep(0.05)


def take(ledger: SharedLedger, document: Any, settings: VpnSettings, *, alive: bool = True) -> None:
    peer = PeerId.parse(document["peer"])
    value = {**document["vpn"], "key": base64.b64decode(document["vpn"]["key"])}
    for address in document["leases"]:
        ledger.lease(settings.pool, IPv4Address(address), peer)
    ledger.link(PeerLink(peer, Address(document["underlay"], 7373), alive=alive))
    ledger.write("vpn", peer, value)


async def report(host: FileHost, attachment: Any) -> None:
    while True:
        dataplane, stats = Watched.process, Watched.last
        status = {
            "address": attachment.node_ip,
            "pid": dataplane.pid if dataplane else None,
            "drops": host.drops,
            "offloads": asdict(stats.offloads) if stats else {},
            "peers": {
                base64.b64encode(peer.key).decode(): {"endpoint": peer.endpoint, "handshake": peer.handshake}
                for peer in (stats.peers if stats else ())
            },
        }
        write(host.file.with_suffix(".status"), status)
        await asyncio.sleep(0.05)


async def main(directory: Path, number: int, underlay: str, options: dict[str, Any]) -> None:
    network.Supervisor = Watched  # type: ignore[misc]
    if program := options.pop("program", ""):
        supervisor.name_of_program = lambda: program  # type: ignore[attr-defined]
    timing = Timing(**options.pop("timing", {}))
    allowed = Offloads(**options.pop("allowed", {}))
    records = options.pop("records", True)
    ledger = SharedLedger(options.pop("token", "a token for tests"))
    settings = VpnSettings.checked({"env": {"ADDRESS": f"10.1.0.{number}/24"}, **options})
    plain = ledger.host(number)
    state = directory / str(number)
    state.mkdir(mode=0o700, exist_ok=True)
    host = FileHost(ledger, plain.identity, state)
    host.speaks_records = records
    host.file, host.underlay = directory / f"{number}.json", underlay
    if host.file.exists():
        take(ledger, json.loads(host.file.read_text()), settings)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]
    async with network.Vpn(settings, timing=timing, allowed=allowed).attach(host) as attachment:
        tasks = [
            asyncio.create_task(read_others(host, settings)),
            asyncio.create_task(report(host, attachment)),
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    try:
        asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])))
    except asyncio.CancelledError:
        sys.exit(0)
