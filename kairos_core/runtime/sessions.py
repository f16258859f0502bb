"""Streams with peers: the greeting, and the reconciliation that brings both ledgers to their union."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from kairos_core.errors import ProtocolError, TransportError
from kairos_core.interfaces import Stream, Transport
from kairos_core.model import Address, PeerId
from kairos_core.protocol import reconciliation
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.entry import SHORT_ID
from kairos_core.protocol.wire import Done, Entries, Hello, Message, Want, decode_message, encode_message
from kairos_core.runtime.pump import Errand, Pump

logger = logging.getLogger(__name__)

SESSION_TIME = 30.0
"""Seconds that one session may take. Stops a peer that reads slowly from holding streams open."""

MAX_SESSIONS = 32
"""Sessions that peers may have open with us at once. Stops a member from exhausting our sockets."""

MAX_DIALS = 8
"""Dials under way at once. Raising it meets a large network sooner, at a burst of handshakes."""

MAX_WAITING = 128
"""Addresses that are dialled or wait for it. Stops a flood of invented announcements from filling our memory."""

DIAL_AGAIN = 5.0
"""Seconds until an address that did not lead to a peer is dialled again."""

MAX_REMEMBERED = 1024
"""Addresses of which we remember where they led. Stops the same flood."""

ENOUGH = 10
"""Living peers from which on members that the ledger names are left to its probes. Without this bound a thousand nodes
that discover each other would open a million streams; lowering it meets a network in more hops."""

OFFERED_UNASKED = 512
"""Entries up to which each new session compares the whole ledgers: 4 kB of ids, less than waiting costs. With more,
the first session does, and digests tell whether another is needed."""

MUCH = 256
"""Entries wanted from one peer that make others wait: a node that joins is sent the ledger once and not by all at
the same time."""

PATIENCE_FOR_OFFER = 5.0
"""Seconds that an offer waits for another to be over."""

TAKEN_AT_ONCE = 32
"""Entries taken in one turn of the event loop, each with a signature to verify: 5 ms. Raising it lets a large
reconciliation delay the answers to probes."""


WHOLE = Errand()


class Sessions:
    """Opens streams to addresses that discovery or gossip names, and answers those that peers open."""

    def __init__(self, pump: Pump, transport: Transport, port: int) -> None:
        self._pump, self._transport, self._port = pump, transport, port
        self._tasks: set[asyncio.Task[None]] = set()
        self._dialling: set[tuple[Address, bool]] = set()  # and whether it is for a peer that we hear from just now
        self._waiting: dict[Address, Errand] = {}  # for when the errand that is run there is done
        self._not_before: dict[Address, float] = {}
        self._leads_to: dict[Address, PeerId] = {}
        self._slots = {is_heard: asyncio.Semaphore(MAX_DIALS) for is_heard in (False, True)}
        self._inbound = 0
        self._has_greeted = False
        self._offering = asyncio.Lock()
        self._joining: Stream | None = None  # the one that brings us most of the ledger, if any

    def found(self, address: Address) -> None:
        """Dial an address that a discovery found, unless it leads to a peer that we know, or will know without."""
        if self._is_needed(address) and time.monotonic() >= self._not_before.get(address, 0.0):
            self._begin(address, None, is_heard=False)

    def _is_needed(self, address: Address) -> bool:
        if not self._has_greeted:  # datagrams say nothing of clocks
            return True
        membership = self._pump.gossip.membership
        known = self._leads_to.get(address)
        has_enough = membership.size > ENOUGH
        return not any(
            address in member.candidates or member.peer == known
            for member in membership.members.values()
            if member.alive or has_enough
        )

    def reconcile(self, address: Address, errand: Errand = WHOLE) -> None:
        """Open a session to an address; while an errand is run there, further ones wait for its end.

        What was dialled before the network healed may hang for another ten seconds: an errand with a peer that we hear
        from does not wait for that.
        """
        self._begin(address, errand, is_heard=errand != WHOLE or self._lives(address))

    def _lives(self, address: Address) -> bool:
        members = self._pump.gossip.membership.members.values()
        return any(member.alive and member.address == address for member in members)

    def _begin(self, address: Address, errand: Errand | None, *, is_heard: bool) -> None:
        if (address, is_heard) in self._dialling:
            if is_heard and errand is not None:
                self._waiting[address] = _together(self._waiting.get(address), errand)
            return
        if len(self._dialling) >= MAX_WAITING:
            self._pump.gossip.drops[Drop.TOO_MANY_SESSIONS] += 1
            return
        self._dialling.add((address, is_heard))
        self._spawn(self._dial(address, errand, is_heard=is_heard))

    def accept(self, stream: Stream) -> None:
        """Answer a stream that a peer opened."""
        if self._inbound >= MAX_SESSIONS:
            self._pump.gossip.drops[Drop.TOO_MANY_SESSIONS] += 1
            self._spawn(stream.close())
            return
        self._inbound += 1
        self._spawn(self._answer(stream))

    async def close(self) -> None:
        """Cancel all sessions."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, address: Address, errand: Errand | None, *, is_heard: bool) -> None:
        try:
            if errand is None:
                self._pump.hail(address)
            async with self._slots[is_heard]:
                if errand is None and not self._is_needed(address):  # the ledger was faster
                    return
                stream = await self._transport.connect(address)
                _remember(self._leads_to, address, stream.peer)
                await self._run(stream, self._initiate(stream, errand))
        except TransportError as error:
            _remember(self._not_before, address, time.monotonic() + DIAL_AGAIN)
            logger.debug("no session with %s: %s", address, error)
        finally:
            self._dialling.discard((address, is_heard))
        if is_heard and address in self._waiting:
            self._begin(address, self._waiting.pop(address), is_heard=True)

    async def _answer(self, stream: Stream) -> None:
        try:
            await self._run(stream, self._respond(stream))
        finally:
            self._inbound -= 1

    async def _run(self, stream: Stream, work: Coroutine[Any, Any, None]) -> None:
        """Run one session; whatever the peer does wrong ends it and is counted."""
        drops = self._pump.gossip.drops
        try:
            async with asyncio.timeout(SESSION_TIME):
                await work
        except ProtocolError as error:
            drops[error.drop] += 1
        except TimeoutError:
            drops[Drop.SLOW_PEER] += 1
        except TransportError as error:
            logger.debug("session with %s ended: %s", stream.peer.short, error)
        finally:
            await stream.close()

    def _check_shunned(self, stream: Stream) -> None:
        if self._pump.is_shunned(stream.peer):
            raise ProtocolError(Drop.SHUNNED, "stream")

    async def _greet(self, stream: Stream) -> None:
        self._check_shunned(stream)
        hello = Hello(self._port, self._pump.clock.own_ms())
        await stream.send(encode_message(hello))
        answer = decode_message(await stream.receive())
        if not isinstance(answer, Hello):
            raise ProtocolError(Drop.BAD_HELLO)
        self._has_greeted = True
        self._pump.greeted(stream.peer, answer.unix_ms)
        self._pump.met(stream.peer, Address(stream.address.host, answer.port))

    async def _initiate(self, stream: Stream, errand: Errand | None) -> None:
        await self._greet(stream)
        ledger = self._pump.ledger
        if errand and (errand.give or errand.want):
            for said in reconciliation.settle(ledger, errand.give, errand.want):
                await stream.send(encode_message(said))
            await self._converse(stream)
            self._pump.synced(stream.peer)
        elif errand is not None or len(ledger) <= OFFERED_UNASKED or not self._pump.introduced.is_set():
            await self._offer(stream)
        else:
            await stream.send(encode_message(Done()))

    async def _offer(self, stream: Stream) -> None:
        """Compare the whole ledgers, one peer at a time: what the first brings, the next need not."""
        try:
            async with asyncio.timeout(PATIENCE_FOR_OFFER):
                await self._offering.acquire()
        except TimeoutError:
            await stream.send(encode_message(Done()))
            return
        try:
            await stream.send(encode_message(reconciliation.offer(self._pump.ledger)))
            await self._converse(stream)
        finally:
            self._offering.release()

    async def _respond(self, stream: Stream) -> None:
        await self._greet(stream)
        try:
            await self._converse(stream)
        finally:
            if self._joining is stream:
                self._joining = None

    def _bounded(self, said: Message, stream: Stream) -> Message:
        """Want much from one peer at a time; the digests will tell what is missing then."""
        if not isinstance(said, Want) or len(said.ids) <= MUCH * SHORT_ID:
            return said
        if self._joining is not None or self._offering.locked():
            return Want(b"")
        self._joining = stream
        return said

    async def _converse(self, stream: Stream) -> None:
        """Answer the peer's messages until either side is done."""
        asked: set[type[Message]] = set()
        while True:
            message = decode_message(await stream.receive())
            self._pump.heard(stream.peer)
            if isinstance(message, Entries):
                for at in range(0, len(message.entries), TAKEN_AT_ONCE):
                    self._pump.take_entries(message.entries[at : at + TAKEN_AT_ONCE], stream.peer)
                    self._check_shunned(stream)
                    await asyncio.sleep(0)
            elif type(message) in asked:  # each is answered with up to the whole ledger
                raise ProtocolError(Drop.MALFORMED, "a second offer or want")
            else:
                asked.add(type(message))
            said: Message | None = None
            for said in reconciliation.answer(self._pump.ledger, message):
                await stream.send(encode_message(self._bounded(said, stream)))
            if isinstance(message, Done) or isinstance(said, Done):
                if asked - {Done}:  # a session may be for the greeting alone
                    self._pump.synced(stream.peer)
                return


def _together(one: Errand | None, other: Errand) -> Errand:
    """Return what does both; to compare the whole ledgers does everything."""
    if one is None or WHOLE in (one, other):
        return other if one is None else WHOLE
    give, want = dict.fromkeys((*one.give, *other.give)), dict.fromkeys((*one.want, *other.want))
    return Errand(tuple(give), tuple(want))


_Value = TypeVar("_Value")


def _remember(table: dict[Address, _Value], address: Address, value: _Value) -> None:
    table.pop(address, None)
    table[address] = value
    if len(table) > MAX_REMEMBERED:
        del table[next(iter(table))]
