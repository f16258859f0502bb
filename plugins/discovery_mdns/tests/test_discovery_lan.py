"""Discovery between real network namespaces, with real multicast."""

import asyncio
import random
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import Barrier
from typing import Any

import pytest
from kairos_discovery_mdns import MdnsDiscovery, MdnsSettings
from kairos_discovery_mdns.instance import SERVICE_TYPE
from kairos_discovery_mdns.lan import lan_of
from kairos_discovery_mdns.links import read_links
from kairos_discovery_mdns.responder import Responder
from zeroconf import ServiceStateChange

from kairos_core import Address, NetworkError
from kairos_core.testing.discoveries import FakeBeacon, check_discovery

pytestmark = pytest.mark.system

Main = Callable[[], Coroutine[Any, Any, Any]]


async def finish(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


class Timed(FakeBeacon):
    """Notes after how many seconds an address was found; `enough` is set when there are `wanted` of them."""

    def __init__(self, network: str, port: int, wanted: int) -> None:
        super().__init__(network, port)
        self.started = time.monotonic()
        self.after: dict[Address, float] = {}
        self.wanted, self.enough = wanted, asyncio.Event()

    def found(self, address: Address) -> None:
        self.after.setdefault(address, time.monotonic() - self.started)
        if len(self.after) >= self.wanted:
            self.enough.set()


def node(port: int, within: float, *, wanted: int = 1000, network: str = "ours", **more: Any) -> Main:
    """A node that runs until it found so many addresses, at most `within` seconds; gives who was found when.

    `together` is a barrier at which nodes that are done wait for the others; `interfaces` a setting; `beacon` the kind.
    """
    together, kind = more.pop("together", Barrier(1)), more.pop("beacon", Timed)

    async def main() -> dict[Address, float]:
        beacon = kind(network, port, wanted)
        task = asyncio.create_task(MdnsDiscovery(MdnsSettings(**more)).run(beacon))
        with suppress(TimeoutError):
            await asyncio.wait_for(beacon.enough.wait(), within)
        await asyncio.to_thread(together.wait, 30)
        await finish(task)
        return beacon.after

    return main


def test_two_machines_find_each_other_by_ipv4_and_ipv6_within_a_second_and_a_half(lan) -> None:
    together = Barrier(2)
    results = [m.start(node(7001 + n, 10, wanted=2, together=together)) for n, m in enumerate(lan)]
    first, second = (result.result(20) for result in results)
    assert first[Address("10.77.0.2", 7002)] < 1.5
    assert second[Address("10.77.0.1", 7001)] < 1.5
    for found, port in ((first, 7002), (second, 7001)):
        link_local = [address for address in found if address.host.startswith("fe80:")]
        assert link_local, f"only {found} was found: no IPv6"
        assert all(address.host.endswith("%eth0") and address.port == port for address in link_local)


def test_a_node_that_starts_later_is_found_within_half_a_second(lan) -> None:
    together = Barrier(2)
    early = lan[0].start(node(7001, 15, wanted=1, together=together))
    time.sleep(2)  # the wall time of another process, not a wait for a result
    late = lan[1].start(node(7002, 10, wanted=1, together=together)).result(20)
    assert late[Address("10.77.0.1", 7001)] < 0.5
    assert Address("10.77.0.2", 7002) in early.result(20)


def test_a_stranger_with_another_token_is_not_reported(lan) -> None:
    ours = lan[0].start(node(7001, 3))
    theirs = lan[1].start(node(7002, 3, network="theirs"))
    assert (ours.result(20), theirs.result(20)) == ({}, {})


def test_the_contract_of_a_discovery_is_kept(lan) -> None:
    async def check() -> None:
        await check_discovery(lambda: MdnsDiscovery(overlap=0.5))

    lan[0].start(check).result(100)


def test_an_old_name_is_withdrawn_after_the_overlap(lan) -> None:
    async def rotate() -> None:
        beacon = FakeBeacon("ours", 7001)
        task = asyncio.create_task(MdnsDiscovery(overlap=0.5).run(beacon))
        await asyncio.sleep(1)
        beacon.turn(5)
        await asyncio.sleep(2.5)
        for epoch, is_announced in ((1, False), (5, True)):
            late = FakeBeacon("ours", 7002, epoch=9, accept=(epoch,))
            looking = asyncio.create_task(MdnsDiscovery().run(late))
            await asyncio.sleep(1.5)
            assert (7001 in late.ports) is is_announced
            await finish(looking)
        await finish(task)

    lan[0].start(rotate).result(60)


def test_an_interface_that_gets_its_address_later_is_followed(machines) -> None:
    together = Barrier(2)
    results = [m.start(node(7001 + n, 10, wanted=2, together=together)) for n, m in enumerate(machines)]
    time.sleep(1)
    for n, machine in enumerate(machines, 1):
        machine.ip("link", "set", "eth0", "up")
        machine.ip("addr", "add", f"10.77.0.{n}/24", "dev", "eth0")
    first, second = (result.result(20) for result in results)
    assert first[Address("10.77.0.2", 7002)] < 4
    assert second[Address("10.77.0.1", 7001)] < 4
    assert any(address.is_ipv6 for address in first), "IPv6 was not followed when its address became usable"


def test_an_address_that_changes_is_announced_anew(lan) -> None:
    together = Barrier(2)
    looking = lan[0].start(node(7001, 15, wanted=3, together=together))
    moving = lan[1].start(node(7002, 15, wanted=1, together=together))
    time.sleep(2)
    lan[1].ip("addr", "del", "10.77.0.2/24", "dev", "eth0")
    lan[1].ip("addr", "add", "10.77.0.99/24", "dev", "eth0")
    assert Address("10.77.0.99", 7002) in looking.result(20)
    assert Address("10.77.0.1", 7001) in moving.result(20)


def test_nothing_is_announced_on_what_is_no_lan(machines) -> None:
    for n, machine in enumerate(machines, 1):
        machine.ip("link", "set", "eth0", "name", "cni0")
        machine.ip("addr", "add", f"10.77.0.{n}/24", "dev", "cni0")
        machine.ip("link", "set", "cni0", "up")
    silent = [machine.start(node(7001 + n, 3)) for n, machine in enumerate(machines)]
    assert [result.result(20) for result in silent] == [{}, {}]
    together = Barrier(2)
    forced = [
        m.start(node(7001 + n, 10, wanted=1, interfaces=["cni0"], together=together)) for n, m in enumerate(machines)
    ]
    assert all(result.result(20) for result in forced)


def test_addresses_of_the_kernel_are_read_with_their_interface(lan) -> None:
    async def read() -> dict[str, set[str]]:
        return {link.name: {str(address) for address in link.addresses} for link in read_links()}

    assert "10.77.0.1/24" in lan[0].start(read).result(10)["eth0"]
    assert "127.0.0.1/8" in lan[0].start(read).result(10)["lo"]


def test_port_5353_in_the_hands_of_another_is_an_error_with_advice(lan) -> None:
    async def refused() -> str:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as greedy:
            greedy.bind(("::", 5353))
            with pytest.raises(NetworkError) as caught:
                await MdnsDiscovery().run(FakeBeacon("ours", 7001))
            return str(caught.value)

    message = lan[0].start(refused).result(20)
    for word in ("5353", "disallow-other-stacks", "p2p.peers"):
        assert word in message


def test_garbage_on_the_wire_does_not_stop_discovery(lan) -> None:
    noise, together = random.Random(7), Barrier(2)

    async def shout() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loud:
            loud.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.77.0.2"))
            for n in range(2000):
                body = noise.randbytes(noise.randrange(600))
                head = b"" if n % 2 else b"\0\0\x84\0\0\0\0\x04\0\0\0\0"  # every other one claims to be answers
                loud.sendto(head + body, ("224.0.0.251", 5353))
                await asyncio.sleep(0.0005)
            await node(7002, 10, wanted=1, together=together)()

    listening = lan[0].start(node(7001, 20, wanted=1, together=together))
    lan[1].start(shout).result(30)
    assert Address("10.77.0.2", 7002) in listening.result(20)


def test_forged_instances_cost_a_bounded_number_of_questions(lan) -> None:
    async def flood() -> int:
        beacon = FakeBeacon("ours", 7001)
        responder = Responder(7001, suffix="me", host="host")
        responder.report(lambda: beacon.names().accept, beacon.found)
        await responder.start(lan_of(read_links()))
        rendezvous = beacon.names().announce[0]
        for n in range(5000):
            name = f"{rendezvous}-{n}.{SERVICE_TYPE}"
            responder._changed(responder._engine, SERVICE_TYPE, name, ServiceStateChange.Added)
        resolving = len(responder._resolving)
        await responder.close()
        return resolving

    assert lan[0].start(flood).result(30) == 32


class Waiting(Timed):
    """Of a node that cannot go on without others."""

    @property
    def is_waiting(self) -> bool:
        return True


@pytest.mark.parametrize("waiting", [0, 1])
def test_halves_that_were_apart_find_each_other_within_seconds_while_one_of_them_waits(lan, waiting: int) -> None:
    for machine in lan:
        machine.cut()
    together = Barrier(2)
    kinds = [Waiting if number == waiting else Timed for number in range(2)]
    found = [m.start(node(7001 + n, 20, wanted=1, together=together, beacon=kinds[n])) for n, m in enumerate(lan)]
    apart = 4.5  # after the announcements of the start, and 3 s before the next regular one
    time.sleep(apart)
    for machine in lan:
        machine.mend()
    for result in found:
        [after] = {round(seconds, 1) for seconds in result.result(30).values()}
        assert apart - 0.5 < after < apart + 2.5
