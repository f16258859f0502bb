"""Conformance of a Transport: what every one must do, checked from outside.

    @pytest.mark.parametrize("check", TRANSPORT_CHECKS)
    async def test_it_conforms(check):
        await check(MyTransport)

or all at once with `await check_transport(MyTransport)`. A check takes a function that makes a transport
which is not started yet; several live at once, each reachable at 127.0.0.1 and the port it returns.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from kairos_core.errors import TransportError
from kairos_core.interfaces import MAX_DATAGRAM, MAX_MESSAGE, Stream, Transport, TransportHost
from kairos_core.model import Address
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.otp import Keyring, NetworkKey
from kairos_core.protocol.token import Token, new_token

T = TypeVar("T")
MakeTransport = Callable[[], Transport]

PATIENCE = 12.0
"""Seconds a check waits for what must happen: somewhat more than the 10 s that `connect` may take."""

NOON = 1_800_000_000.0
"""The wall time of a `RecordingHost` that is told none."""


def token_for_test(name: str = "ours") -> Token:
    """Make a token that depends on the name alone, so that a test repeats."""
    return new_token(random.Random(name).choice)


class RecordingHost(TransportHost):
    """A node as a transport sees it, which keeps all it is told."""

    def __init__(self, name: str, token: Token | None = None, unix_now: float = NOON) -> None:
        """Take a name, from which the identity follows, the token, and a clock, which may be set later."""
        self.identity = Identity(random.Random(name).randbytes(32))
        self.unix_now = unix_now
        self.datagrams: asyncio.Queue[tuple[bytes, Address]] = asyncio.Queue()
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.drops: Counter[str] = Counter()
        self._keyring = Keyring(token or token_for_test())
        self._drop_came = asyncio.Event()

    def network_keys(self) -> tuple[NetworkKey, ...]:
        return self._keyring.accepted(self.unix_now)

    def datagram_received(self, data: bytes, source: Address) -> None:
        self.datagrams.put_nowait((data, source))

    def stream_accepted(self, stream: Stream) -> None:
        self.streams.put_nowait(stream)

    def dropped(self, drop: str) -> None:
        self.drops[str(drop)] += 1
        self._drop_came.set()

    async def saw_drop(self, *any_of: str) -> str:
        """Wait for a drop of one of these names (of any, without names) and return it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for name in any_of or tuple(self.drops):
                    if self.drops[name]:
                        return str(name)
                self._drop_came.clear()
                await self._drop_came.wait()


@dataclass
class Running:
    """A started transport, its host, and where it listens."""

    transport: Transport
    host: RecordingHost
    address: Address

    async def open_stream(self, other: Running) -> tuple[Stream, Stream]:
        """Connect to another; return this end and the other's."""
        near = await self.transport.connect(other.address)
        return near, await within(other.host.streams.get())


async def within(awaitable: Awaitable[T], seconds: float = PATIENCE) -> T:
    """Wait for what must happen. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        return await awaitable


@asynccontextmanager
async def running(make: MakeTransport, *hosts: RecordingHost) -> AsyncIterator[list[Running]]:
    """Start one transport for each host, and close them."""
    started: list[Running] = []
    try:
        for host in hosts:
            transport = make()
            started.append(Running(transport, host, Address("127.0.0.1", 0)))
            started[-1].address = Address("127.0.0.1", await transport.start(host))
        yield started
    finally:
        for each in started:
            await each.transport.close()


async def refused(awaitable: Awaitable[object]) -> TransportError:
    """Assert that this fails with a TransportError in time, and return it."""
    try:
        outcome = await within(awaitable)
    except TransportError as error:
        return error
    raise AssertionError(f"a TransportError was due; the outcome was {outcome!r}")


async def check_messages_arrive_whole_and_in_order(make: MakeTransport) -> None:
    """Messages of all sizes, the empty one too, cross in both directions at once."""
    sizes = [0, 1, 5, 1000, 1 << 16, 70_001, *range(1, 200, 7)]
    messages = [random.Random(size).randbytes(size) for size in sizes]
    async with running(make, RecordingHost("left"), RecordingHost("right")) as (left, right):
        near, far = await left.open_stream(right)

        async def send_all(stream: Stream) -> None:
            for message in messages:
                await stream.send(message)

        async def receive_all(stream: Stream) -> list[bytes]:
            return [await stream.receive() for _ in messages]

        *_, at_far, at_near = await within(
            asyncio.gather(send_all(near), send_all(far), receive_all(far), receive_all(near))
        )
        assert at_far == messages
        assert at_near == messages


async def check_the_largest_message_arrives_and_a_larger_is_refused(make: MakeTransport) -> None:
    """`MAX_MESSAGE` bytes pass; one more is a ValueError of the sender's, and the stream goes on."""
    async with running(make, RecordingHost("left"), RecordingHost("right")) as (left, right):
        near, far = await left.open_stream(right)
        try:
            await near.send(bytes(MAX_MESSAGE + 1))
        except ValueError:
            pass
        else:
            raise AssertionError("send took a message over MAX_MESSAGE")
        largest = random.Random(1).randbytes(MAX_MESSAGE)
        received, _ = await within(asyncio.gather(far.receive(), near.send(largest)))
        assert received == largest


async def check_many_tasks_may_send(make: MakeTransport) -> None:
    """Messages of several sending tasks do not mix."""
    async with running(make, RecordingHost("left"), RecordingHost("right")) as (left, right):
        near, far = await left.open_stream(right)
        sends = [near.send(bytes([n]) * 100_000) for n in range(20)]
        reading = asyncio.create_task(_receive_many(far, len(sends)))
        await within(asyncio.gather(*sends))
        assert sorted(await within(reading)) == [bytes([n]) * 100_000 for n in range(20)]


async def _receive_many(stream: Stream, count: int) -> list[bytes]:
    return [await stream.receive() for _ in range(count)]


async def check_a_cancelled_receive_loses_nothing(make: MakeTransport) -> None:
    """Whoever stops waiting for a message finds it later."""
    async with running(make, RecordingHost("left"), RecordingHost("right")) as (left, right):
        near, far = await left.open_stream(right)
        waiting = asyncio.create_task(far.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert waiting.cancelled()
        await near.send(b"later")
        assert await within(far.receive()) == b"later"


async def check_a_sender_waits_for_its_reader(make: MakeTransport) -> None:
    """A peer that does not read stops the sender before it has put 64 MiB into queues."""
    async with running(make, RecordingHost("left"), RecordingHost("right")) as (left, right):
        near, far = await left.open_stream(right)
        sent = 0
        try:
            while sent < 64:
                await within(near.send(bytes(MAX_MESSAGE)), seconds=0.2)
                sent += 1
        except TimeoutError:
            pass
        assert sent < 64, "64 messages of 1 MiB were taken, and none was read"
        assert await within(_receive_many(far, sent)) == [bytes(MAX_MESSAGE)] * sent


async def check_each_side_knows_the_other(make: MakeTransport) -> None:
    """The peer ids are those of the identities, and the addresses are real."""
    async with running(make, RecordingHost("left"), RecordingHost("right")) as (left, right):
        near, far = await left.open_stream(right)
        assert near.peer == right.host.identity.peer_id
        assert far.peer == left.host.identity.peer_id
        assert near.address == right.address
        assert far.address.host == left.address.host


async def check_a_stranger_is_refused(make: MakeTransport) -> None:
    """Who holds another token gets no stream, in either direction, and the one called counts it."""
    member, stranger = RecordingHost("member"), RecordingHost("stranger", token_for_test("theirs"))
    async with running(make, member, stranger) as (inside, outside):
        await refused(outside.transport.connect(inside.address))
        await refused(inside.transport.connect(outside.address))
        await member.saw_drop()
        await stranger.saw_drop()
        assert member.streams.empty()
        assert stranger.streams.empty()


async def check_clocks_may_differ(make: MakeTransport) -> None:
    """Clocks an epoch apart meet, and clocks far apart meet through the join key."""
    for wrong in (3600.0, -3600.0, 36_000.0, -NOON):
        right_host = RecordingHost("right", unix_now=NOON + wrong)
        async with running(make, RecordingHost("left"), right_host) as (left, right):
            near, far = await left.open_stream(right)
            await near.send(b"hello")
            assert await within(far.receive()) == b"hello"
            await right.open_stream(left)


async def check_a_stream_to_oneself_is_refused(make: MakeTransport) -> None:
    """Whoever finds its own address does not become its own peer."""
    async with running(make, RecordingHost("alone")) as (alone,):
        await refused(alone.transport.connect(alone.address))
        await alone.host.saw_drop(Drop.LOOPED)
        assert alone.host.streams.empty()


async def check_datagrams_arrive(make: MakeTransport) -> None:
    """Datagrams up to `MAX_DATAGRAM` arrive as they were sent, and their source is where to answer."""
    async with running(make, RecordingHost("left"), RecordingHost("right")) as (left, right):
        for datagram in (b"x", random.Random(2).randbytes(MAX_DATAGRAM)):
            received, source = await _deliver(left, datagram, right.address, right.host)
            assert received == datagram
            assert source == left.address
            answer, _ = await _deliver(right, b"answer", source, left.host)
            assert answer == b"answer"


async def _deliver(
    sender: Running, datagram: bytes, destination: Address, receiver: RecordingHost
) -> tuple[bytes, Address]:
    for _ in range(20):  # best effort: one may be lost
        sender.transport.send(datagram, destination)
        try:
            return await within(receiver.datagrams.get(), seconds=0.5)
        except TimeoutError:
            continue
    raise AssertionError(f"none of 20 datagrams of {len(datagram)} bytes arrived")


async def check_send_never_raises(make: MakeTransport) -> None:
    """A datagram that cannot go is lost: too large, to nowhere, before the start, after the end."""
    destinations = [
        Address("255.255.255.255", 9),  # the kernel refuses a broadcast that was not asked for
        Address("fe80::1%nosuch0", 9),
        Address("a.name.invalid", 9),
        Address("127.0.0.1", 0),
        Address("127.0.0.1", 70_000),
    ]
    idle = make()
    idle.send(b"early", Address("127.0.0.1", 9))
    await idle.close()
    async with running(make, RecordingHost("left"), RecordingHost("right")) as (left, right):
        left.transport.send(bytes(MAX_DATAGRAM + 1), right.address)
        for destination in destinations:
            left.transport.send(b"lost", destination)
        assert (await _deliver(left, b"fine", right.address, right.host))[0] == b"fine"
        await left.transport.close()
        left.transport.send(b"late", right.address)


async def check_closing_a_stream_ends_both_ends(make: MakeTransport) -> None:
    """What was sent before the close arrives; then both ends say that the peer is gone."""
    async with running(make, RecordingHost("left"), RecordingHost("right")) as (left, right):
        near, far = await left.open_stream(right)
        await near.send(b"last words")
        await within(near.close())
        await within(near.close())
        assert await within(far.receive()) == b"last words"
        await refused(far.receive())
        await refused(near.send(b"more"))
        await refused(near.receive())
        await within(far.close())


async def check_closing_the_transport_ends_everything(make: MakeTransport) -> None:
    """Streams of both directions end, nothing can be opened any more, and closing again does no harm."""
    async with running(make, RecordingHost("left"), RecordingHost("right")) as (left, right):
        opened = await left.open_stream(right)
        accepted = await right.open_stream(left)
        await within(left.transport.close())
        await within(left.transport.close())
        for stream in (*opened, *accepted):
            await refused(stream.receive())
        await refused(left.transport.connect(right.address))
        await refused(right.transport.connect(left.address))


async def check_connect_needs_a_start(make: MakeTransport) -> None:
    """A transport that is not running opens nothing."""
    await refused(make().connect(Address("127.0.0.1", 9)))


TRANSPORT_CHECKS: tuple[Callable[[MakeTransport], Awaitable[None]], ...] = (
    check_messages_arrive_whole_and_in_order,
    check_the_largest_message_arrives_and_a_larger_is_refused,
    check_many_tasks_may_send,
    check_a_cancelled_receive_loses_nothing,
    check_a_sender_waits_for_its_reader,
    check_each_side_knows_the_other,
    check_a_stranger_is_refused,
    check_clocks_may_differ,
    check_a_stream_to_oneself_is_refused,
    check_datagrams_arrive,
    check_send_never_raises,
    check_closing_a_stream_ends_both_ends,
    check_closing_the_transport_ends_everything,
    check_connect_needs_a_start,
)


async def check_transport(make: MakeTransport) -> None:
    """Run all checks. Raises AssertionError, or TimeoutError, at the first that fails."""
    for check in TRANSPORT_CHECKS:
        await check(make)
