import asyncio
import time
from ipaddress import IPv4Address, IPv4Network

import pytest

from kairos_core.errors import NetworkError
from kairos_core.protocol.buckets import LEASES
from kairos_core.protocol.otp import Keyring
from kairos_core.runtime import hosts as hosts_module
from kairos_core.runtime.hosts import NodeBeacon, NodeNetworkHost
from kairos_core.testing.stores import MemoryStore
from kairos_core.testing.transports import token_for_test

POOL = IPv4Network("10.1.0.0/30")  # two addresses
KEYRING = Keyring(token_for_test())


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(hosts_module, "INTRODUCTION", 0.01)
    monkeypatch.setattr(hosts_module, "LEASE_PAUSE", 0.01)


def host_of(peer, tmp_path) -> NodeNetworkHost:
    return NodeNetworkHost(peer.pump, KEYRING, tmp_path)


async def test_two_nodes_at_once_get_different_addresses(world, tmp_path):
    peers = [await world.peer("one"), await world.peer("two")]
    await world.meet(*peers)
    hosts = [host_of(peer, tmp_path) for peer in peers]
    held = await asyncio.gather(*(host.lease(POOL) for host in hosts))
    assert sorted(held) == list(POOL.hosts())
    for host in hosts:
        await peers[0].until(lambda host=host: len(host.leases(POOL)) == 2)
        assert dict(host.leases(POOL)) == {held[0]: peers[0].id, held[1]: peers[1].id}


async def test_a_node_holds_one_address_of_a_pool_and_the_others_are_released(world, tmp_path):
    peer = await world.peer("one")
    first = await host_of(peer, tmp_path).lease(POOL, IPv4Address("10.1.0.1"))
    second = await host_of(peer, tmp_path).lease(POOL, IPv4Address("10.1.0.2"))
    assert dict(host_of(peer, tmp_path).leases(POOL)) == {second: peer.id}
    assert first != second


async def test_a_restarted_node_gets_the_address_it_had(world, tmp_path):
    disk: dict[tuple[str, str], bytes] = {}
    pool = IPv4Network("10.1.0.0/16")
    async with world.running("one", MemoryStore(disk)) as peer:
        before = await host_of(peer, tmp_path).lease(pool, IPv4Address("10.1.77.7"))
    async with world.running("one", MemoryStore(disk)) as peer:
        assert await host_of(peer, tmp_path).lease(pool) == before


async def test_a_node_in_a_full_pool_is_told_so(world, tmp_path):
    peers = [await world.peer(name) for name in ("one", "two", "three")]
    await world.meet(*peers)
    for peer in peers[:2]:
        await host_of(peer, tmp_path).lease(POOL)
    await peers[2].until(lambda: len(host_of(peers[2], tmp_path).leases(POOL)) == 2)
    with pytest.raises(NetworkError, match=r"all 2 addresses of 10.1.0.0/30 are taken"):
        await host_of(peers[2], tmp_path).lease(POOL)


async def test_a_static_address_that_another_holds_is_refused(world, tmp_path):
    one, two = await world.peer("one"), await world.peer("two")
    await world.meet(one, two)
    address = await host_of(one, tmp_path).lease(POOL)
    await two.until(lambda: address in host_of(two, tmp_path).leases(POOL))
    with pytest.raises(NetworkError, match=f"{address} is held by the node {one.id}"):
        await host_of(two, tmp_path).lease(POOL, address)


async def test_an_address_outside_the_pool_is_refused_and_not_waited_for(world, tmp_path):
    peer = await world.peer("one")
    with pytest.raises(NetworkError, match=r"10.9.9.9 is not one of 10.1.0.0/30"):
        await host_of(peer, tmp_path).lease(POOL, IPv4Address("10.9.9.9"))


async def test_the_guard_returns_when_another_node_holds_our_address(world, tmp_path):
    one, two = await world.peer("one"), await world.peer("two")
    host = host_of(one, tmp_path)
    address = await host.lease(POOL)
    guard = asyncio.create_task(host.guard())
    await asyncio.sleep(0)
    # Both took it while they could not see each other; the other has held it for longer.
    two.pump.publish(LEASES, f"{address}/{two.id}", {"renewals": 9})
    assert not guard.done()
    await world.meet(one, two)
    await asyncio.wait_for(guard, 5)
    assert await host_of(one, tmp_path).lease(POOL) != address


async def test_the_guard_stays_while_nothing_is_lost(world, tmp_path):
    peer = await world.peer("one")
    host = host_of(peer, tmp_path)
    await host.lease(POOL)
    guard = asyncio.create_task(host.guard())
    for number in range(3):
        peer.write("values", number)
        await asyncio.sleep(0.001)
    assert not guard.done()
    guard.cancel()


async def test_claims_that_are_none_are_left_out(world, tmp_path):
    peer = await world.peer("one")
    for key, value in (("nowhere", {"renewals": 1}), ("10.1.0.1", 5), ("10.1.0.2", {"renewals": "many"})):
        peer.pump.publish(LEASES, f"{key}/{peer.id}", value)
    assert dict(host_of(peer, tmp_path).leases(POOL)) == {}
    assert await host_of(peer, tmp_path).lease(POOL) in POOL


async def test_a_network_publishes_under_its_own_name_and_reads_what_others_did(world, tmp_path):
    one, two = await world.peer("one"), await world.peer("two")
    await world.meet(one, two)
    host_of(one, tmp_path).publish("topic", {"port": 1})
    two.pump.publish("topic", str(two.id), [1, 2])  # no mapping: not shown
    await two.until(lambda: host_of(two, tmp_path).published("topic") == {one.id: {"port": 1}})
    host_of(one, tmp_path).publish("topic", None)
    await two.until(lambda: host_of(two, tmp_path).published("topic") == {})
    with pytest.raises(NetworkError, match="oversized"):
        host_of(one, tmp_path).publish("topic", {"large": "x" * 20_000})


async def test_secrets_depend_on_the_purpose_and_links_leave_out_ourselves(world, tmp_path):
    one, two = await world.peer("one"), await world.peer("two")
    await world.meet(one, two)
    host = host_of(one, tmp_path)
    assert host.secret("a") != host.secret("b")
    assert host.secret("a") == host_of(two, tmp_path).secret("a")
    assert [(link.peer, link.alive) for link in host.links()] == [(two.id, True)]
    host.dropped("spoofed", 3)
    assert one.drops["spoofed"] == 3


async def test_a_node_that_is_alone_for_long_announces_the_clock_free_name_too(world, monkeypatch):
    one, two = await world.peer("one"), await world.peer("two")
    beacon = NodeBeacon(KEYRING, one.pump, 1, lambda _: None)
    assert beacon.names().announce == KEYRING.rendezvous(time.time()).announce
    monkeypatch.setattr(hosts_module, "ALONE", -1.0)
    assert len(beacon.names().announce) == 2
    await world.meet(one, two)
    assert len(beacon.names().announce) == 1


async def test_an_address_for_a_guest_is_held_beside_the_nodes_own_until_it_is_released(world, tmp_path):
    pool = IPv4Network("10.1.0.0/29")
    peer = await world.peer("one")
    host = host_of(peer, tmp_path)
    guest = await host.lease(pool, guest="phone")
    own = await host.lease(pool)
    assert guest != own
    assert await host_of(peer, tmp_path).lease(pool) == own
    assert await host.lease(pool, guest="phone") == guest
    assert dict(host.leases(pool)) == {own: peer.id, guest: peer.id}
    with pytest.raises(NetworkError, match="is held by the node"):
        await host.lease(pool, own, guest="tablet")
    host.release(pool, "phone")
    assert dict(host.leases(pool)) == {own: peer.id}


async def test_a_guests_address_lost_to_another_does_not_end_the_attachment(world, tmp_path):
    pool = IPv4Network("10.1.0.0/29")
    one, two = await world.peer("one"), await world.peer("two")
    await world.meet(one, two)
    host = host_of(one, tmp_path)
    await host.lease(pool)
    address = await host.lease(pool, guest="phone")
    guard = asyncio.create_task(host.guard())
    two.pump.publish(LEASES, f"{address}/{two.id}", {"renewals": 9})
    await one.until(lambda: host.leases(pool)[address] == two.id)
    await asyncio.sleep(0.01)
    assert not guard.done()
    guard.cancel()
