"""For authors of networks: fake hosts that share a ledger in memory, and the check for every network."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from copy import deepcopy
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any

from kairos_core.errors import NetworkError
from kairos_core.interfaces import Network, NetworkHost, PeerLink
from kairos_core.model import Address, Attachment, PeerId
from kairos_core.protocol.identity import Identity


class SharedLedger:
    """What the hosts of one network agree on: topics, leases, who is reached where. Changes show at once."""

    def __init__(self, token: str = "a token for tests") -> None:
        self.topics: dict[str, dict[PeerId, Mapping[str, Any]]] = {}
        self.leases: dict[IPv4Network, dict[IPv4Address, PeerId]] = {}
        self.links: dict[PeerId, PeerLink] = {}
        self._token = token
        self._waiting: set[asyncio.Event] = set()

    def host(self, number: int, address: Address | None = None, directory: Path | None = None) -> FakeNetworkHost:
        """Return the host of the node with this number (0 to 255); others reach it at the address."""
        identity = Identity(bytes([number]) * 32)
        self.link(PeerLink(identity.peer_id, address, alive=True))
        return FakeNetworkHost(self, identity, directory or Path(tempfile.gettempdir()))

    def link(self, link: PeerLink) -> None:
        """Set how the others see a node."""
        self.links[link.peer] = link
        self.notify()

    def write(self, topic: str, author: PeerId, value: Mapping[str, Any] | None) -> None:
        """Write an entry as its author; a test may write anything as anybody."""
        entries = self.topics.setdefault(topic, {})
        if value is None:
            entries.pop(author, None)
        else:
            entries[author] = deepcopy(dict(value))
        self.notify()

    def lease(self, pool: IPv4Network, address: IPv4Address, holder: PeerId) -> None:
        """Give an address to a node, whoever had it before."""
        self.leases.setdefault(pool, {})[address] = holder
        self.notify()

    def secret(self, purpose: str) -> bytes:
        return hashlib.sha256(f"{self._token}\0{purpose}".encode()).digest()

    def notify(self) -> None:
        """Tell every host that something may have changed."""
        for event in self._waiting:
            event.set()

    async def changes(self, event: asyncio.Event) -> AsyncIterator[None]:
        try:
            while True:
                await event.wait()
                event.clear()
                yield
        finally:
            self._waiting.discard(event)

    def subscribe(self) -> AsyncIterator[None]:
        event = asyncio.Event()
        self._waiting.add(event)
        return self.changes(event)


class FakeNetworkHost(NetworkHost):
    """One node of a SharedLedger. `drops` counts what the network refused."""

    def __init__(self, ledger: SharedLedger, identity: Identity, directory: Path) -> None:
        self.ledger = ledger
        self.identity = identity
        self.state_directory = directory
        self.drops: Counter[str] = Counter()
        self.guests: dict[IPv4Address, str] = {}

    def secret(self, purpose: str) -> bytes:
        return self.ledger.secret(purpose)

    def publish(self, topic: str, value: Mapping[str, Any] | None) -> None:
        self.ledger.write(topic, self.identity.peer_id, value)

    def published(self, topic: str) -> Mapping[PeerId, Mapping[str, Any]]:
        return dict(self.ledger.topics.get(topic, {}))

    def links(self) -> tuple[PeerLink, ...]:
        return tuple(link for peer, link in self.ledger.links.items() if peer != self.identity.peer_id)

    async def lease(self, pool: IPv4Network, wanted: IPv4Address | None = None, *, guest: str = "") -> IPv4Address:
        taken = self.ledger.leases.get(pool, {})
        held = [address for address, holder in taken.items() if holder == self.identity.peer_id]
        mine = [address for address in held if self.guests.get(address, "") == guest]
        free = (address for address in pool.hosts() if address not in taken)
        if wanted is not None and (wanted not in taken or wanted in mine):
            address = wanted
        else:
            address = mine[0] if mine else next(free, IPv4Address(0))
        if address not in pool:
            raise NetworkError(f"all addresses of {pool} are taken; use a larger pool")
        self.ledger.lease(pool, address, self.identity.peer_id)
        if guest:
            self.guests[address] = guest
        return address

    def release(self, pool: IPv4Network, guest: str) -> None:
        for address in [address for address, name in self.guests.items() if name == guest]:
            del self.guests[address]
            self.ledger.leases.get(pool, {}).pop(address, None)
            self.ledger.notify()

    def leases(self, pool: IPv4Network) -> Mapping[IPv4Address, PeerId]:
        return dict(self.ledger.leases.get(pool, {}))

    def changes(self) -> AsyncIterator[None]:
        return self.ledger.subscribe()

    def dropped(self, drop: str, count: int = 1) -> None:
        self.drops[drop] += count


async def check_network(make: Callable[[], Network]) -> None:
    """Check what every network must do: attach, tell a sound Attachment, leave nothing behind, attach again.

    Brings up real interfaces, so it needs the rights that the network needs. Raises AssertionError.
    """
    host = SharedLedger().host(1)
    for _ in range(2):  # a node leaves and enters again, for example when it lost its address
        await _check_one_attachment(make(), host)
    network = make()
    for _ in range(2):  # also the same object
        await _check_one_attachment(network, host)


async def _check_one_attachment(network: Network, host: FakeNetworkHost) -> None:
    interfaces, tasks = _interfaces(), asyncio.all_tasks()
    async with network.attach(host) as attachment:
        _check_attachment(attachment)
        _check_secrets(host)
    assert _interfaces() == interfaces, f"interfaces before {interfaces}, after leaving {_interfaces()}"
    left = asyncio.all_tasks() - tasks
    assert not left, f"still running after leaving: {left}"


def _check_attachment(attachment: Attachment) -> None:
    assert isinstance(attachment, Attachment), f"attach gave {attachment!r}, not an Attachment"
    if attachment.interface is not None:
        assert attachment.interface in _interfaces(), f"there is no interface {attachment.interface!r}"
    if attachment.node_ip is not None:
        ip_address(attachment.node_ip)
    names = [manifest.name for manifest in attachment.manifests]
    assert len(names) == len(set(names)), f"two manifests have one name: {names}"


def _check_secrets(host: FakeNetworkHost) -> None:
    """Published entries are read by every member: nothing derived from our private key may be among them."""
    said = repr(host.ledger.topics)
    for purpose in ("vpn", "sealing"):
        private = host.identity.exchange_key(purpose).private_bytes_raw()
        assert repr(private) not in said, "a private key was published"
        assert private.hex() not in said, "a private key was published"


def _interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}
