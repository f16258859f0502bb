"""Streams with peers: the greeting, and the reconciliation that brings both ledgers to their union."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TypeVar

from kairos_core.errors import ProtocolError, TransportError
from kairos_core.interfaces import Stream, Transport
from kairos_core.model import Address, PeerId
from kairos_core.protocol import reconciliation
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.wire import Done, Entries, Hello, Message, decode_message, encode_message
from kairos_core.runtime.pump import Pump

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

TAKEN_AT_ONCE = 32
"""Entries taken in one turn of the event loop, each with a signature to verify: 5 ms. Raising it lets a large
reconciliation delay the answers to probes."""


class Sessions:
    """Opens streams to addresses that discovery or gossip names, and answers those that peers open."""

    def __init__(self, pump: Pump, transport: Transport, port: int) -> None:
        self._pump, self._transport, self._port = pump, transport, port
        self._tasks: set[asyncio.Task[None]] = set()
        self._dialling: set[Address] = set()
        self._not_before: dict[Address, float] = {}
        self._leads_to: dict[Address, PeerId] = {}
        self._slots = asyncio.Semaphore(MAX_DIALS)
        self._inbound = 0

    def found(self, address: Address) -> None:
        """Dial an address that a discovery found, unless it leads to a peer that we know to be alive."""
        alive = self._pump.gossip.membership.alive()
        known = self._leads_to.get(address)
        if any(address in member.candidates or member.peer == known for member in alive):
            return
        if time.monotonic() >= self._not_before.get(address, 0.0):
            self.reconcile(address)

    def reconcile(self, address: Address) -> None:
        """Open a session to an address, unless one is being opened."""
        if address in self._dialling:
            return
        if len(self._dialling) >= MAX_WAITING:
            self._pump.gossip.drops[Drop.TOO_MANY_SESSIONS] += 1
            return
        self._dialling.add(address)
        self._spawn(self._dial(address))

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

    def _spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial(self, address: Address) -> None:
        try:
            async with self._slots:
                stream = await self._transport.connect(address)
                _remember(self._leads_to, address, stream.peer)
                await self._run(stream, self._initiate(stream))
        except TransportError as error:
            _remember(self._not_before, address, time.monotonic() + DIAL_AGAIN)
            logger.debug("no session with %s: %s", address, error)
        finally:
            self._dialling.discard(address)

    async def _answer(self, stream: Stream) -> None:
        try:
            await self._run(stream, self._respond(stream))
        finally:
            self._inbound -= 1

    async def _run(self, stream: Stream, work: object) -> None:
        """Run one session; whatever the peer does wrong ends it and is counted."""
        drops = self._pump.gossip.drops
        try:
            async with asyncio.timeout(SESSION_TIME):
                await work  # type: ignore[misc]
        except ProtocolError as error:
            drops[error.drop] += 1
        except TimeoutError:
            drops[Drop.SLOW_PEER] += 1
        except TransportError as error:
            logger.debug("session with %s ended: %s", stream.peer.short, error)
        finally:
            await stream.close()

    async def _greet(self, stream: Stream) -> None:
        hello = Hello(self._port, self._pump.clock.own_ms())
        await stream.send(encode_message(hello))
        answer = decode_message(await stream.receive())
        if not isinstance(answer, Hello):
            raise ProtocolError(Drop.BAD_HELLO)
        self._pump.greeted(stream.peer, answer.unix_ms)
        self._pump.met(stream.peer, Address(stream.address.host, answer.port))

    async def _initiate(self, stream: Stream) -> None:
        await self._greet(stream)
        await stream.send(encode_message(reconciliation.offer(self._pump.ledger)))
        await self._converse(stream)

    async def _respond(self, stream: Stream) -> None:
        await self._greet(stream)
        await self._converse(stream)

    async def _converse(self, stream: Stream) -> None:
        """Answer the peer's messages until either side is done."""
        asked: set[type[Message]] = set()
        while True:
            message = decode_message(await stream.receive())
            if isinstance(message, Entries):
                for at in range(0, len(message.entries), TAKEN_AT_ONCE):
                    self._pump.take_entries(message.entries[at : at + TAKEN_AT_ONCE], stream.peer)
                    await asyncio.sleep(0)
            elif type(message) in asked:  # each is answered with up to the whole ledger
                raise ProtocolError(Drop.MALFORMED, "a second offer or want")
            else:
                asked.add(type(message))
            said: Message | None = None
            for said in reconciliation.answer(self._pump.ledger, message):
                await stream.send(encode_message(said))
            if isinstance(message, Done) or isinstance(said, Done):
                self._pump.synced(stream.peer)
                return


_Value = TypeVar("_Value")


def _remember(table: dict[Address, _Value], address: Address, value: _Value) -> None:
    table.pop(address, None)
    table[address] = value
    if len(table) > MAX_REMEMBERED:
        del table[next(iter(table))]
