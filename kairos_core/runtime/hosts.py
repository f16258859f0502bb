"""What the node shows to its plugins: the beacon to discoveries, a host to the transport, a host to networks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from kairos_core.cluster import addresses
from kairos_core.errors import NetworkError
from kairos_core.interfaces import Beacon, BeaconNames, NetworkHost, PeerLink, Stream, TransportHost
from kairos_core.model import Address, PeerId
from kairos_core.protocol.buckets import LEASES
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.otp import Keyring, NetworkKey
from kairos_core.runtime.clock import NetworkTime
from kairos_core.runtime.pump import Pump

ALONE = 30.0
"""Seconds without any peer after which the clock-free name is announced too: our clock may be wrong."""

INTRODUCTION = 3.0
"""Seconds that an address waits for the first peer. Raising it avoids a conflict with leases not yet known;
lowering it lets a lone machine start sooner."""

LEASE_PAUSE = 0.15
"""Seconds between claiming an address and using it: time for a simultaneous claim of the same to arrive."""


class NodeBeacon(Beacon):
    """Announces this node's port under the names of the epoch."""

    def __init__(self, keyring: Keyring, pump: Pump, port: int, found: Callable[[Address], None]) -> None:
        self.port = port
        self._keyring, self._pump, self._found = keyring, pump, found
        self._started = time.monotonic()
        self.waits: Callable[[], bool] = lambda: False

    @property
    def is_waiting(self) -> bool:
        return self.waits()

    def names(self) -> BeaconNames:
        is_alone = not self._pump.gossip.membership.alive() and time.monotonic() - self._started > ALONE
        rendezvous = self._keyring.rendezvous(self._pump.clock.now(), join=is_alone)
        return BeaconNames(rendezvous.announce, rendezvous.accept)

    async def changed(self) -> None:
        before = self.names()
        while self.names() == before:  # what changes is the wall clock, which tells nobody
            now = self._pump.clock.now()
            await asyncio.sleep(min(10.0, max(0.1, self._keyring.epoch_ends(now) - now)))

    def found(self, address: Address) -> None:
        self._found(address)


class NodeTransportHost(TransportHost):
    """Passes what arrives to the pump and the sessions; those are set before the transport starts."""

    def __init__(self, identity: Identity, keyring: Keyring, drops: Counter[str], clock: NetworkTime) -> None:
        self.identity, self._clock = identity, clock
        self._keyring, self._drops = keyring, drops
        self.receive: Callable[[bytes, Address], None] = lambda _data, _source: None
        self.accept: Callable[[Stream], None] | None = None

    def network_keys(self) -> tuple[NetworkKey, ...]:
        return self._keyring.accepted(self._clock.now())

    def datagram_received(self, data: bytes, source: Address) -> None:
        self.receive(data, source)

    def stream_accepted(self, stream: Stream) -> None:
        if self.accept is not None:
            self.accept(stream)

    def dropped(self, drop: str) -> None:
        self._drops[drop] += 1


class NodeNetworkHost(NetworkHost):
    """A network's window on the ledger. One for each attachment; `guard` returns when a lease is lost."""

    def __init__(self, pump: Pump, keyring: Keyring, state_directory: Path) -> None:
        self.identity = pump.gossip.identity
        self.state_directory = state_directory
        self._pump, self._keyring = pump, keyring
        self._leased: list[tuple[IPv4Network, IPv4Address]] = []

    def secret(self, purpose: str) -> bytes:
        return self._keyring.secret("network " + purpose)

    def publish(self, topic: str, value: Mapping[str, Any] | None) -> None:
        try:
            self._pump.publish(topic, str(self._pump.me), value)
        except ValueError as error:  # a limit of the ledger
            raise NetworkError(str(error)) from error

    def published(self, topic: str) -> Mapping[PeerId, Mapping[str, Any]]:
        entries = (entry for entry in self._pump.entries() if entry.bucket == topic)
        return {entry.author: entry.content for entry in entries if isinstance(entry.content, dict)}

    def links(self) -> tuple[PeerLink, ...]:
        members = self._pump.gossip.membership.members.values()
        return tuple(PeerLink(member.peer, member.address, member.alive) for member in members)

    def leases(self, pool: IPv4Network) -> Mapping[IPv4Address, PeerId]:
        return addresses.holders(addresses.read_claims(self._pump.entries()), pool)

    async def lease(self, pool: IPv4Network, wanted: IPv4Address | None = None, *, guest: str = "") -> IPv4Address:
        await self._introduction()
        while True:
            address = self._candidate(pool, wanted, guest)
            if self._claim(address, guest):
                await asyncio.sleep(LEASE_PAUSE)
            if self.leases(pool).get(address) == self._pump.me:
                if not guest:
                    self._leased.append((pool, address))
                self._release_others(pool, address, guest)
                return address

    def release(self, pool: IPv4Network, guest: str) -> None:
        self._release_others(pool, None, guest)

    def changes(self) -> AsyncIterator[None]:
        return self._pump.changes()

    def dropped(self, drop: str, count: int = 1) -> None:
        self._pump.gossip.drops[drop] += count

    async def guard(self) -> None:
        """Watch over the leases; return when one is lost to another node."""
        async for _ in self._pump.changes():
            if any(self.leases(pool).get(address) != self._pump.me for pool, address in self._leased):
                return

    async def _introduction(self) -> None:
        """Wait for the first peer's ledger, so that we see the leases that exist."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTRODUCTION):
                await self._pump.introduced.wait()

    def _candidate(self, pool: IPv4Network, wanted: IPv4Address | None, guest: str) -> IPv4Address:
        held = self.leases(pool)
        mine = [address for address in self._claimed(pool, guest) if held.get(address) == self._pump.me]
        if wanted is not None and wanted not in pool:
            raise NetworkError(f"the address {wanted} is not one of {pool}. Choose one of the pool, or another pool")
        if wanted is not None:
            if wanted in held and wanted not in mine:
                raise NetworkError(
                    f"the address {wanted} is held by the node {held[wanted]}. Choose another static address, or "
                    "none to have one chosen"
                )
            return wanted
        address = min(mine, default=None) or addresses.free_address(pool, self._pump.me, held)
        if address is None:
            raise NetworkError(
                f"all {len(held)} addresses of {pool} are taken. Set a larger p2p.vpn.subnet on all nodes"
            )
        return address

    def _claim(self, address: IPv4Address, guest: str) -> bool:
        key = f"{address}/{self._pump.me}"
        current = self._pump.get(LEASES, key)
        renewals = current.content.get("renewals", 0) if current and isinstance(current.content, dict) else 0
        whose = {"guest": guest} if guest else {}
        return self._pump.publish(LEASES, key, {"renewals": renewals, **whose})

    def _claimed(self, pool: IPv4Network, guest: str) -> list[IPv4Address]:
        """Return what this node claims for a guest; for the empty name, what it claims for itself."""
        claims = addresses.read_claims(list(self._pump.entries()))
        mine = (claim for claim in claims if claim.peer == self._pump.me and claim.guest == guest)
        return [claim.address for claim in mine if claim.address in pool]

    def _release_others(self, pool: IPv4Network, kept: IPv4Address | None, guest: str) -> None:
        for address in self._claimed(pool, guest):
            if address != kept:
                self._pump.publish(LEASES, f"{address}/{self._pump.me}", None)
