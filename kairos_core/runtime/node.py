"""One node: made from its configuration and plugins, and run until it is told to stop.

                discoveries ──found──> Sessions ──streams──┐
Transport ──datagrams──> Pump ── Gossip · Ledger (pure) <──┘      LedgerStore <── Pump
                          │ changes
                          v
networks ──attachment──> Reconciler ── controller (pure) ──plan──> EngineRunner ── Engine
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

from kairos_core.config import Config
from kairos_core.errors import KairosError
from kairos_core.interfaces import Discovery
from kairos_core.model import Address
from kairos_core.protocol.buckets import PEERS, Policy, policy_of
from kairos_core.protocol.entry import Entry
from kairos_core.protocol.gossip import Gossip
from kairos_core.protocol.ledger import Ledger
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.token import parse_token
from kairos_core.runtime import assembly
from kairos_core.runtime.actions import Reconciler
from kairos_core.runtime.clock import NetworkTime
from kairos_core.runtime.engines import EngineRunner
from kairos_core.runtime.expulsion import Expeller
from kairos_core.runtime.hosts import NodeBeacon, NodeTransportHost
from kairos_core.runtime.lan import lan_addresses
from kairos_core.runtime.memory import keep_small
from kairos_core.runtime.networks import NetworkRunner
from kairos_core.runtime.plugins import Plugins
from kairos_core.runtime.pump import Pump
from kairos_core.runtime.sessions import Sessions
from kairos_core.runtime.state import StateDirectory

logger = logging.getLogger(__name__)

Work: TypeAlias = Coroutine[Any, Any, None]

DISCOVER_AGAIN = 5.0
"""Seconds until a discovery that failed is started again, and between looks at the static seeds."""

FAREWELL = 1.0
"""Seconds that a machine stays to tell the others that it is gone: some rounds of gossip, what is lost included."""

LOOK_AT_ADDRESSES = 10.0
"""Seconds between looks at our own LAN addresses. Lowering it tells peers of a new one sooner."""


class Node:
    """One node of the network. `run` does all the work."""

    def __init__(self, config: Config, plugins: Plugins, state: Path, kind: str = "node") -> None:
        """Open the state directory and make the parts. Raises KairosError. `kind` is node or operator."""
        self.config, self.plugins, self.kind = config, plugins, kind
        p2p = assembly.network_block(config)
        keyring = Keyring(parse_token(p2p.network_token.get_secret_value()))
        self._state = StateDirectory(state)
        identity = self._state.identity()
        election = self._state.election(keyring.network, p2p.network_id)
        durable = election.load()
        self.parts = assembly.make_parts(config, plugins, self._state.ledger_directory(), kind)
        self._keyring = keyring
        gossip = Gossip(identity, keyring, Ledger(keyring.network), random.SystemRandom())
        clock = NetworkTime()
        self._host = NodeTransportHost(identity, keyring, gossip.drops, clock)
        self.pump = Pump(gossip, self.parts.transport, self.parts.store, clock)
        engine = assembly.engine_offer(config, plugins) if kind == "node" else None
        spec = assembly.make_spec(config, keyring, durable, kind, engine)
        self.reconciler = Reconciler(self.pump, spec, durable, election.save)
        self.reconciler.introduce = self._introduce
        self.port = 0
        self.discovery_errors: dict[str, str] = {}

    async def run(self, serve: Callable[[Node], Work]) -> None:
        """Run the node for as long as `serve` lasts. Raises KairosError when it cannot start."""
        self._host.receive = self.pump.receive
        self.port = await self.parts.transport.start(self._host)
        sessions = Sessions(self.pump, self.parts.transport, self.port)
        self._host.accept, self.pump.sync_wanted = sessions.accept, sessions.reconcile
        try:
            await self.pump.restore()
            self.reconciler.recall()
            self._introduce()
            await self._run_tasks(sessions, serve)
        finally:
            await sessions.close()
            await self.parts.transport.close()
            if self.has_left:
                self._state.forget()

    async def _run_tasks(self, sessions: Sessions, serve: Callable[[Node], Work]) -> None:
        """The pump outlives the others, so that what they say on the way out is still sent and saved."""
        pump = asyncio.create_task(self.pump.run())
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [tasks.create_task(work) for work in self._works(sessions)]
                server = tasks.create_task(serve(self))
                left = tasks.create_task(self.reconciler.left.wait())
                await asyncio.wait({server, left, pump}, return_when=asyncio.FIRST_COMPLETED)
                for task in (*background, left):
                    task.cancel()
                if self.has_left:
                    await asyncio.wait(background)
                    self._retire()
                    await asyncio.sleep(FAREWELL)
                server.cancel()
            if self.kind == "operator":
                self._retire()
                await asyncio.sleep(0.05)  # lets the last datagrams leave
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
        if pump.done() and not pump.cancelled() and (error := pump.exception()):
            raise error

    def _works(self, sessions: Sessions) -> list[Work]:
        networks = NetworkRunner(self.pump, self._keyring, self.parts.networks, self._state.path)
        networks.attachments.changed = self.pump.wake
        self.reconciler.attachments = networks.attachments
        works: list[Work] = [self.reconciler.run(), networks.run(), self._follow_addresses(), keep_small()]
        if self.parts.engine is not None:
            self.reconciler.engine = EngineRunner(self.parts.engine)
            self.reconciler.engine.changed = self.pump.wake
            self.reconciler.expeller = Expeller(self.parts.engine, self.reconciler.bid_farewell)
            works += [self.reconciler.engine.run(), self.reconciler.expeller.run()]
        beacon = NodeBeacon(self._keyring, self.pump, self.port, sessions.found)
        beacon.waits = lambda: self.reconciler.is_waiting
        works += [self._discover(name, found, beacon) for name, found in self.parts.discoveries.items()]
        seeds = assembly.network_block(self.config).peers
        return [*works, self._dial_seeds(seeds, sessions)]

    async def _discover(self, name: str, discovery: Discovery, beacon: NodeBeacon) -> None:
        """Run one discovery; should it fail, say so and try again. The others go on."""
        while True:
            try:
                await discovery.run(beacon)
                return
            except KairosError as error:
                reason = str(error)
            except Exception as error:
                logger.exception("the discovery %s failed", name)
                reason = f"the discovery {name} failed: {error!r}"
            if self.discovery_errors.get(name) != reason:
                logger.warning("%s", reason)
            self.discovery_errors[name] = reason
            await asyncio.sleep(DISCOVER_AGAIN)

    async def _dial_seeds(self, seeds: tuple[Address, ...], sessions: Sessions) -> None:
        """Dial the static seeds, and at first everyone the saved ledger knows: a restart need not be discovered."""
        for member in list(self.pump.gossip.membership.members.values()):
            if member.address is not None:
                sessions.reconcile(member.address)
        while seeds:
            for address in seeds:
                sessions.found(address)
            await asyncio.sleep(DISCOVER_AGAIN)

    async def _follow_addresses(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AT_ADDRESSES)
            self._introduce()

    def _introduce(self) -> None:
        """Let our `peers` entry say who we are and where we listen."""
        addresses = [str(Address(address.host, self.port)) for address in lan_addresses()][:8]
        durable = self.reconciler.actions.local.durable
        value = assembly.describe(self.reconciler.spec, durable, self.reconciler.vault.public_key, addresses)
        self.pump.publish(PEERS, str(self.pump.me), value)

    @property
    def has_left(self) -> bool:
        """Whether this machine has left the network for good: its state is to be forgotten."""
        return self.reconciler.left.is_set()

    def _retire(self) -> None:
        """Leave nothing of ourselves behind; what this node has set (roles, values, a generation) stays."""
        mine: list[Entry] = [
            entry
            for entry in self.pump.entries()
            if entry.author == self.pump.me and policy_of(entry.bucket) is Policy.OWN
        ]
        for entry in sorted(mine, key=lambda entry: entry.bucket == PEERS):
            self.pump.publish(entry.bucket, entry.key, None)

    def started_at(self) -> float:
        """Return when the node was started (unix seconds)."""
        return self.reconciler.milestones.get("started", time.time())
