"""The pump between the gossip machine and the world: datagrams, timers, the store, and those who watch the ledger.

Everything happens in the event loop's thread but the store's work, which has a thread of its own.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from kairos_core.cluster.addresses import renewed
from kairos_core.errors import ProtocolError, StoreError
from kairos_core.interfaces import LedgerStore, StoreBatch, Transport
from kairos_core.model import Address, PeerId
from kairos_core.protocol.entry import Entry, decode_entry
from kairos_core.protocol.gossip import Gossip, PeerAlive, PeerDead, SyncWanted
from kairos_core.protocol.ledger import Change, draft
from kairos_core.runtime.clock import NetworkTime

logger = logging.getLogger(__name__)

SAVE_AGAIN = 5.0
"""Seconds until a save that failed (a full disk) is tried again; nothing is lost meanwhile."""

HOUSEKEEPING = 60.0
"""Seconds between looks at leases that end or are due for renewal; leases last a day."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What a session is for: entries to give and ids to want, or both empty to compare the whole ledgers."""

    give: tuple[bytes, ...] = ()
    want: tuple[bytes, ...] = ()


class Pump:
    """Drives one node's gossip. `subscribe` to be woken by changes; `publish` to write."""

    def __init__(
        self, gossip: Gossip, transport: Transport, store: LedgerStore | None, clock: NetworkTime | None = None
    ) -> None:
        self.gossip, self.ledger = gossip, gossip.ledger
        self.clock = clock or NetworkTime()
        self.sync_wanted: Callable[[Address, Errand], None] = lambda _, __: None
        self.store_error: str | None = None
        self.store_damage: str | None = None  # what was lost of the saved ledger at the start
        self.introduced = asyncio.Event()
        self._transport, self._store = transport, store
        self._thread = ThreadPoolExecutor(1, "ledger-store")
        self._unsaved: dict[tuple[str, str], bytes | None] = {}
        self._late: dict[tuple[str, str], bytes] = {}  # saved here, and past their lease by our clock
        self._saving = asyncio.Lock()
        self._dirty, self._timer = asyncio.Event(), asyncio.Event()
        self._listeners: set[asyncio.Event] = set()
        self._queues: set[asyncio.Queue[Entry]] = set()

    @property
    def me(self) -> PeerId:
        return self.gossip.identity.peer_id

    # -- reading and writing ------------------------------------------------------------------------------------

    def entries(self) -> Iterable[Entry]:
        """Yield the entries that a reader sees now."""
        return self.ledger.read(self.clock.now())

    def get(self, bucket: str, key: str) -> Entry | None:
        """Return what a reader sees under a key."""
        return self.ledger.get(bucket, key, self.clock.now())

    def publish(self, bucket: str, key: str, value: Any, *, epoch: int = 0) -> bool:
        """Let an entry of ours stand in the ledger; nothing happens if it stands already. None deletes it.

        Raises ValueError when the bucket's policy or a limit forbids it.
        """
        entry = draft(self.me, bucket, key, value, epoch=epoch)
        current = self.get(bucket, key)
        if (current.value if current else b"") == entry.value:
            return False
        self.gossip.write(entry, time.monotonic(), self.clock.now())
        self.flush()
        return True

    # -- bytes from and to peers --------------------------------------------------------------------------------

    def receive(self, data: bytes, source: Address) -> None:
        """Take a datagram from the transport."""
        self.gossip.receive_datagram(data, source, time.monotonic(), self.clock.now())
        self.flush()

    def take_entries(self, raws: Iterable[bytes], sender: PeerId) -> None:
        """Take entries that came over a stream."""
        self.gossip.take_entries(raws, time.monotonic(), self.clock.now(), sender=sender)
        self.flush()

    def hail(self, address: Address) -> None:
        """Introduce this node by a datagram to whoever listens at an address."""
        self.gossip.hail(address, self.clock.now())
        self.flush()

    def met(self, peer: PeerId, address: Address) -> None:
        """Note an authenticated stream with a peer that listens at an address."""
        self.gossip.met(peer, address, time.monotonic())
        self.flush()

    def heard(self, peer: PeerId) -> None:
        """Note that a peer speaks on an authenticated stream."""
        self.gossip.heard(peer, time.monotonic())

    def is_shunned(self, peer: PeerId) -> bool:
        """Say whether a peer is given no stream now, since it brings forged entries."""
        return self.gossip.is_shunned(peer, time.monotonic())

    def greeted(self, peer: PeerId, unix_ms: int) -> None:
        """Note what a peer's clock shows; if that changes our time, what we wrote under the old one is signed again."""
        if self.clock.heard(peer, unix_ms):
            self._restore(list(self._late.values()))
            self._renew()
            self.wake()
        self._ask_the_time()

    def _ask_the_time(self) -> None:
        """Greet living peers until enough clocks are heard, where some of them disagree."""
        members = self.gossip.membership.members
        for peer in self.clock.unheard(member.peer for member in self.gossip.membership.alive()):
            address = members[peer].address
            if address is not None:
                self.sync_wanted(address, Errand())

    def synced(self, peer: PeerId) -> None:
        """Note that our ledger and a peer's were brought to their union."""
        self.introduced.set()
        self.gossip.synced(peer, time.monotonic())

    def flush(self) -> None:
        """Send what waits, and tell of what happened."""
        for datagram, destination in self.gossip.datagrams_to_send():
            self._transport.send(datagram, destination)
        changed = False
        while (event := self.gossip.next_event()) is not None:
            match event:
                case Change(entry):
                    self._note(entry)
                case PeerAlive(peer) | PeerDead(peer):
                    logger.info("%s %s", peer.short, "is here" if isinstance(event, PeerAlive) else "no longer answers")
                    self._ask_the_time()
                case SyncWanted(_, address, give, want):
                    self.sync_wanted(address, Errand(give, want))
                    continue
            changed = True
        if changed:
            self.wake()
        self._timer.set()

    def _note(self, entry: Entry) -> None:
        self._unsaved[entry.bucket, entry.key] = entry.raw
        self._late.pop((entry.bucket, entry.key), None)
        self._dirty.set()
        for queue in self._queues:
            if not queue.full():  # a watcher that does not read loses news, not our memory
                queue.put_nowait(entry)

    # -- waiting for changes --------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Wake all who wait for changes."""
        for listener in self._listeners:
            listener.set()

    async def changes(self) -> AsyncIterator[None]:
        """Yield at once, and then whenever something may have changed; changes in between are merged into one."""
        listener = asyncio.Event()
        self._listeners.add(listener)
        try:
            while True:
                listener.clear()
                yield
                await listener.wait()
        finally:
            self._listeners.discard(listener)

    async def watch(self) -> AsyncIterator[Entry]:
        """Yield each entry that changes from now on."""
        queue: asyncio.Queue[Entry] = asyncio.Queue(maxsize=10_000)
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    # -- tasks ----------------------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Take what was saved on this machine.

        A damaged store is set aside by its first load, and then begins anew: peers refill it. Raises StoreError
        when the store cannot be used at all.
        """
        if self._store is None:
            return
        load = functools.partial(asyncio.get_running_loop().run_in_executor, self._thread, self._store.load)
        try:
            raws = list(await load())
        except StoreError as error:
            raws = list(await load())
            self.store_damage = str(error)
            logger.error("%s", error)
        self._restore(raws)

    def _restore(self, raws: list[bytes]) -> None:
        """Take saved entries. Our clock may be wrong: what is past its lease by it waits for the network's time."""
        before = len(self.ledger)
        self.gossip.restore(raws, time.monotonic(), self.clock.now())
        self._late = {}
        if len(self.ledger) - before < len(raws):
            self._late = dict(self._past_their_lease(raws))

    def _past_their_lease(self, raws: list[bytes]) -> Iterator[tuple[tuple[str, str], bytes]]:
        for raw in raws:
            with suppress(ProtocolError):  # counted by the ledger
                entry = decode_entry(raw, self.ledger.network)
                if entry.expires_at <= self.clock.now():
                    yield (entry.bucket, entry.key), raw

    async def run(self) -> None:
        """Run timers, housekeeping and saving until cancelled; then save what is left."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._run_timers())
                tasks.create_task(self._run_saving())
                tasks.create_task(self._keep_house())
        finally:
            if self._store is not None:
                self._save_quietly()
                self._store.close()
            self._thread.shutdown()

    async def _run_timers(self) -> None:
        while True:
            self._timer.clear()
            delay = self.gossip.next_timer() - time.monotonic()
            try:
                # At least one turn of the event loop, whatever the timers say: nothing else may starve.
                # Not wait_for: in Python 3.11 it loses a cancellation that comes together with a change, and then
                # the agent never ends.
                async with asyncio.timeout(min(max(delay, 0.001), 3600.0)):
                    await self._timer.wait()
                continue
            except TimeoutError:
                pass
            self.gossip.handle_timer(time.monotonic(), self.clock.now())
            self.flush()

    async def _run_saving(self) -> None:
        while True:
            await self._dirty.wait()
            try:
                await self.saved()
            except StoreError:  # told by `saved`
                await asyncio.sleep(SAVE_AGAIN)

    async def saved(self) -> None:
        """Return when all that is in the ledger now is saved. Raises StoreError."""
        # One at a time: who comes second waits for what the first has taken, and takes it over if that fails.
        async with self._saving:
            batch, self._unsaved = self._unsaved, {}
            self._dirty.clear()
            if self._store is None or not batch:
                return
            try:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._save, _as_batch(batch))
                self.store_error = None
            except BaseException as error:  # cancelled too: the last save, on the way out, has all of it again
                self._unsaved = {**batch, **self._unsaved}
                self._dirty.set()
                if isinstance(error, StoreError):
                    self._complain(error)
                raise

    def _complain(self, error: StoreError) -> None:
        if self.store_error is None:
            logger.error("%s", error)
        self.store_error = str(error)

    def _save(self, batch: StoreBatch) -> None:
        assert self._store is not None
        try:
            self._store.save(batch)
        except StoreError:
            raise
        except Exception as error:  # a plugin's mistake must not end the node
            logger.exception("the ledger store failed")
            raise StoreError(f"the ledger cannot be saved: the store failed with {error!r}. Report it") from error

    def _save_quietly(self) -> None:
        try:
            self._thread.submit(self._save, _as_batch(self._unsaved)).result()
        except StoreError as error:
            logger.error("%s", error)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING)
            over = self.gossip.expire(self.clock.now())
            gone = [*((entry.bucket, entry.key) for entry in over), *self._late]
            self._late = {}
            if gone:
                self._unsaved.update(dict.fromkeys(gone))
                self._dirty.set()
            self._renew()
            if over:
                self.wake()

    def _renew(self) -> None:
        """Sign our entries again that are due."""
        for entry in self.ledger.renewals(self.me, self.clock.now()):
            try:
                self.gossip.write(replace(renewed(entry), author=self.me), time.monotonic(), self.clock.now())
            except ValueError as error:
                logger.error("%s", error)
        self.flush()


def _as_batch(changes: dict[tuple[str, str], bytes | None]) -> StoreBatch:
    put = tuple((bucket, key, raw) for (bucket, key), raw in changes.items() if raw is not None)
    return StoreBatch(put, tuple(place for place, raw in changes.items() if raw is None))
