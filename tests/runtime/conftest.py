"""Nodes without sockets: pumps and sessions over a network in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from kairos_core.interfaces import LedgerStore, Stream
from kairos_core.model import Address, PeerId
from kairos_core.protocol.gossip import Gossip
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Ledger
from kairos_core.protocol.otp import Keyring
from kairos_core.runtime.clock import NetworkTime
from kairos_core.runtime.hosts import NodeTransportHost
from kairos_core.runtime.pump import Pump
from kairos_core.runtime.sessions import Sessions
from kairos_core.testing.memory import MemoryNetwork, MemoryTransport
from kairos_core.testing.transports import token_for_test

PATIENCE = 5.0
"""Seconds until something that should happen is given up; what happens takes milliseconds."""


@dataclass
class Peer:
    """One node as far as gossip goes."""

    identity: Identity
    pump: Pump
    sessions: Sessions
    transport: MemoryTransport
    task: asyncio.Task[None]

    @property
    def id(self) -> PeerId:
        return self.identity.peer_id

    @property
    def address(self) -> Address:
        return self.transport.address

    @property
    def drops(self) -> dict[str, int]:
        return dict(self.pump.gossip.drops)

    def write(self, bucket: str, value: object) -> str:
        """Write under our own key, and return it."""
        self.pump.publish(bucket, str(self.id), value)
        return str(self.id)

    def reads(self, bucket: str, key: str) -> object:
        entry = self.pump.get(bucket, key)
        return entry.content if entry else None

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until a condition holds that changes of the ledger or of a peer's liveness bring about."""
        async with asyncio.timeout(PATIENCE):
            async for _ in self.pump.changes():
                if holds():
                    return

    async def connect(self, other: Peer) -> Stream:
        """Open a stream by hand, to say over it what no honest node says."""
        return await self.transport.connect(other.address)


class World:
    """Makes peers on one network, and ends them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.network = MemoryNetwork(random.Random(1))
        self._stack = stack

    async def peer(
        self, name: str, store: LedgerStore | None = None, token: str = "ours", clock: NetworkTime | None = None
    ) -> Peer:
        return await self._stack.enter_async_context(self.running(name, store, token, clock))

    @asynccontextmanager
    async def running(
        self, name: str, store: LedgerStore | None = None, token: str = "ours", clock: NetworkTime | None = None
    ) -> AsyncIterator[Peer]:
        """Run a peer; one that is made again under the same name has the same identity."""
        identity, keyring = Identity(name.encode().ljust(32)), Keyring(token_for_test(token))
        clock = clock or NetworkTime()
        gossip = Gossip(identity, keyring, Ledger(keyring.network), random.Random(name))
        transport = MemoryTransport(self.network)
        host = NodeTransportHost(identity, keyring, gossip.drops, clock)
        pump = Pump(gossip, transport, store, clock)
        host.receive = pump.receive
        sessions = Sessions(pump, transport, await transport.start(host))
        host.accept, pump.sync_wanted = sessions.accept, sessions.reconcile
        await pump.restore()
        task = asyncio.create_task(pump.run())
        await asyncio.sleep(0)  # a task that is cancelled before its first step saves nothing
        try:
            yield Peer(identity, pump, sessions, transport, task)
        finally:
            await sessions.close()
            task.cancel()
            await asyncio.wait({task}, timeout=PATIENCE)
            await transport.close()
            assert task.done(), "the pump did not stop"

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until a condition holds that nothing wakes us for. Other tasks run meanwhile."""
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    async def meet(self, *peers: Peer) -> None:
        """Let every peer have a session with every other, and wait until all see all alive."""
        for peer in peers:
            for other in peers:
                if other is not peer:
                    peer.sessions.reconcile(other.address)
        for peer in peers:
            await peer.until(lambda peer=peer: len(peer.pump.gossip.membership.alive()) >= len(peers) - 1)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack)
