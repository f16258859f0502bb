"""The fakes that network authors test with, and that the check finds what it should find."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import IPv4Address, IPv4Network

import pytest

from kairos_core import Address, Attachment, Network, NetworkError, NetworkHost
from kairos_core.testing.networks import SharedLedger, check_network

POOL = IPv4Network("10.1.0.0/30")


async def test_addresses_are_unique_kept_and_end() -> None:
    ledger = SharedLedger()
    alice, bob, carol = (ledger.host(number) for number in (1, 2, 3))
    first = await alice.lease(POOL)
    assert await bob.lease(POOL, wanted=first) != first
    assert await alice.lease(POOL) == first
    assert alice.leases(POOL) == {
        IPv4Address("10.1.0.1"): alice.identity.peer_id,
        IPv4Address("10.1.0.2"): bob.identity.peer_id,
    }
    with pytest.raises(NetworkError, match="larger pool"):
        await carol.lease(POOL)


async def test_changes_are_merged_and_none_is_lost_after_the_call() -> None:
    ledger = SharedLedger()
    alice, bob = ledger.host(1), ledger.host(2, Address("192.0.2.2", 7))
    changes = bob.changes()
    alice.publish("topic", {"a": 1})
    alice.publish("topic", {"a": 2})
    await asyncio.wait_for(anext(changes), 1)
    assert bob.published("topic") == {alice.identity.peer_id: {"a": 2}}
    alice.publish("topic", None)
    await asyncio.wait_for(anext(changes), 1)
    assert not bob.published("topic")


async def test_a_host_sees_the_others_and_shares_their_secret() -> None:
    ledger = SharedLedger()
    alice, bob = ledger.host(1), ledger.host(2, Address("192.0.2.2", 7))
    (link,) = alice.links()
    assert (link.peer, link.address, link.alive) == (bob.identity.peer_id, Address("192.0.2.2", 7), True)
    assert alice.secret("a") == bob.secret("a") != alice.secret("b")
    assert SharedLedger("another").host(1).secret("a") != alice.secret("a")


class Plain(Network):
    """A network that does what it is told to."""

    def __init__(self, attachment: Attachment, act: Callable[[NetworkHost], object] = lambda host: None) -> None:
        self.attachment, self.act = attachment, act
        self.kept: list[object] = []

    def attach(self, host: NetworkHost) -> AbstractAsyncContextManager[Attachment]:
        return self._attach(host)

    @asynccontextmanager
    async def _attach(self, host: NetworkHost) -> AsyncIterator[Attachment]:
        self.kept.append(self.act(host))
        yield self.attachment


async def test_a_sound_network_passes() -> None:
    await check_network(lambda: Plain(Attachment("lo", "127.0.0.1")))


async def test_an_interface_that_is_not_there_is_found() -> None:
    with pytest.raises(AssertionError, match="no interface 'nope0'"):
        await check_network(lambda: Plain(Attachment("nope0")))


async def test_a_task_left_behind_is_found() -> None:
    tasks: list[asyncio.Task[None]] = []

    def leave(host: NetworkHost) -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(60)))

    with pytest.raises(AssertionError, match="still running"):
        await check_network(lambda: Plain(Attachment(), leave))
    for task in tasks:
        task.cancel()


async def test_a_published_private_key_is_found() -> None:
    def tell(host: NetworkHost) -> None:
        host.publish("vpn", {"key": host.identity.exchange_key("vpn").private_bytes_raw()})

    with pytest.raises(AssertionError, match="private key"):
        await check_network(lambda: Plain(Attachment(), tell))
