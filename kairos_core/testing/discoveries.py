"""For authors of a discovery: a beacon without a node, and the check that every discovery must pass.

async def test_my_discovery_keeps_the_contract() -> None:
    await check_discovery(lambda: MyDiscovery(directory))
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from kairos_core.interfaces import Beacon, BeaconNames, Discovery
from kairos_core.model import Address


def rendezvous_name(network: str, epoch: int) -> str:
    """Return a name of the shape that a token gives: 26 lower-case base32 characters."""
    digest = hashlib.sha256(f"{network}/{epoch}".encode()).digest()
    return base64.b32encode(digest[:16]).decode().rstrip("=").lower()


class FakeBeacon(Beacon):
    """A node's side of a discovery: of a network, at an epoch, on a port. Keeps all that was found.

    The port tells the nodes of a test apart. Make it in the event loop that uses it.
    """

    def __init__(self, network: str, port: int, epoch: int = 1, accept: Iterable[int] | None = None) -> None:
        """Announce the name of `epoch`; accept those of `accept` (default: the epoch and its neighbours)."""
        self.port = port
        self.network = network
        self.addresses: set[Address] = set()
        self._turned = asyncio.Event()
        self._found = asyncio.Event()
        self.turn(epoch, accept)

    def turn(self, epoch: int, accept: Iterable[int] | None = None) -> None:
        """Go to an epoch, as the clock makes a real node do."""
        accepted = (epoch - 1, epoch, epoch + 1) if accept is None else tuple(accept)
        self._names = BeaconNames(
            announce=(rendezvous_name(self.network, epoch),),
            accept=frozenset(rendezvous_name(self.network, n) for n in accepted),
        )
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()

    def names(self) -> BeaconNames:
        return self._names

    async def changed(self) -> None:
        await self._turned.wait()

    def found(self, address: Address) -> None:
        self.addresses.add(address)
        self._found.set()

    @property
    def ports(self) -> set[int]:
        """The ports of all addresses found so far."""
        return {address.port for address in self.addresses}

    async def until_found(self, *others: FakeBeacon, within: float = 10.0) -> None:
        """Wait until the nodes of these beacons were found. Raises AssertionError after `within` seconds."""
        wanted = {other.port for other in others}
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while not wanted <= self.ports:
                    self._found.clear()
                    await self._found.wait()
        assert wanted <= self.ports, f"{self.port} found {self.ports or 'nobody'} in {within} s, not {wanted}"


async def check_discovery(make: Callable[[], Discovery], *, within: float = 10.0) -> None:
    """Check that what `make` returns keeps the contract of `Discovery`.

    `make` is called for each of seven nodes, all in this process, that can reach each other: nodes of one
    network find each other, strangers do not; a change of names is announced; cancellation withdraws the
    announcement and leaves no task behind. `within` is the time in seconds for each step. Raises
    AssertionError.
    """
    before = asyncio.all_tasks()
    first, second = ours = FakeBeacon("ours", 7001), FakeBeacon("ours", 7002)
    theirs = FakeBeacon("theirs", 7003), FakeBeacon("theirs", 7004)
    async with AsyncExitStack() as stack:
        stop_first = await stack.enter_async_context(_running(make(), first, within))
        for beacon in (second, *theirs):
            await stack.enter_async_context(_running(make(), beacon, within))
        await _meet(ours, within)
        await _meet(theirs, within)
        await _check_turn(make, ours, within)
        await stop_first()
        await _check_withdrawn(make, first, second, within)
    _check_apart(ours, theirs)
    left = {task.get_name() for task in asyncio.all_tasks() - before}
    assert not left, f"tasks are left behind after cancellation: {left}"


async def _check_turn(make: Callable[[], Discovery], nodes: tuple[FakeBeacon, FakeBeacon], within: float) -> None:
    for node in nodes:
        node.turn(2)
    newcomer = FakeBeacon("ours", 7005, epoch=3, accept=(2,))
    async with _running(make(), newcomer, within):
        await _meet((*nodes, newcomer), within)


async def _check_withdrawn(make: Callable[[], Discovery], gone: FakeBeacon, stays: FakeBeacon, within: float) -> None:
    # Two latecomers: that they find each other and `stays` shows that they would have found `gone` by now.
    late = FakeBeacon("ours", 7006, epoch=2), FakeBeacon("ours", 7007, epoch=2)
    async with _running(make(), late[0], within), _running(make(), late[1], within):
        await _meet((stays, *late), within)
        for beacon in late:
            assert gone.port not in beacon.ports, "a node that was cancelled is still announced"


async def _meet(beacons: tuple[FakeBeacon, ...], within: float) -> None:
    for beacon in beacons:
        await beacon.until_found(*(other for other in beacons if other is not beacon), within=within)


def _check_apart(ours: Iterable[FakeBeacon], theirs: Iterable[FakeBeacon]) -> None:
    for beacon in ours:
        assert not beacon.ports & {other.port for other in theirs}, "a node of another network was reported"
    for beacon in theirs:
        assert not beacon.ports & {other.port for other in ours}, "a node was reported to another network"


@asynccontextmanager
async def _running(
    discovery: Discovery, beacon: FakeBeacon, within: float
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    task = asyncio.create_task(discovery.run(beacon), name=f"discovery {beacon.port}")

    async def stop() -> None:
        if task.cancelled():
            return
        if task.done():
            task.result()
            raise AssertionError("run returned; it should go on until it is cancelled")
        task.cancel()
        await asyncio.wait([task], timeout=within)
        assert task.cancelled(), f"run did not end by cancellation within {within} s"

    try:
        yield stop
    finally:
        await stop()
