"""The check for discoveries passes a right one and catches each way of being wrong."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest

from kairos_core import Address, Beacon, Discovery
from kairos_core.testing.discoveries import FakeBeacon, check_discovery, rendezvous_name


class Board(Discovery):
    """A discovery by a board in memory: announcements are pinned to it, and all who look are told of each."""

    def __init__(self, board: list[Beacon], looking: list[Beacon]) -> None:
        self.board, self.looking = board, looking

    async def run(self, beacon: Beacon) -> None:
        with self.pinned(beacon):
            while True:
                self.tell()
                await self.news(beacon)

    @contextmanager
    def pinned(self, beacon: Beacon) -> Iterator[None]:
        self.board.append(beacon)
        self.looking.append(beacon)
        try:
            yield
        finally:
            self.board.remove(beacon)
            self.looking.remove(beacon)

    async def news(self, beacon: Beacon) -> None:
        await beacon.changed()

    def is_wanted(self, names: set[str], accept: frozenset[str]) -> bool:
        return bool(names & accept)

    def names(self, beacon: Beacon) -> set[str]:
        return set(beacon.names().announce)

    def tell(self) -> None:
        for looking in self.looking:
            for pinned in self.board:
                if self.is_wanted(self.names(pinned), looking.names().accept):
                    looking.found(Address("192.0.2.1", pinned.port))


class Blind(Board):
    def tell(self) -> None:
        pass


class Indiscreet(Board):
    def is_wanted(self, names: set[str], accept: frozenset[str]) -> bool:
        return True


class Stubborn(Board):
    """Goes on to announce the names of its start."""

    first: ClassVar[dict[Beacon, set[str]]] = {}

    def names(self, beacon: Beacon) -> set[str]:
        return self.first.setdefault(beacon, super().names(beacon))


class Lingering(Board):
    @contextmanager
    def pinned(self, beacon: Beacon) -> Iterator[None]:
        self.board.append(beacon)
        self.looking.append(beacon)
        yield


class Littering(Board):
    """Leaves a task behind."""

    litter: ClassVar[list[asyncio.Task[None]]] = []

    async def run(self, beacon: Beacon) -> None:
        self.litter.append(asyncio.create_task(asyncio.sleep(2)))
        await super().run(beacon)


class Quitting(Board):
    async def news(self, beacon: Beacon) -> None:
        await asyncio.sleep(0)
        self.tell()
        if beacon.port == 7001:
            raise StopAsyncIteration
        await super().news(beacon)

    async def run(self, beacon: Beacon) -> None:
        try:
            await super().run(beacon)
        except StopAsyncIteration:
            return


def maker(kind: type[Board]) -> Callable[[], Discovery]:
    board: list[Beacon] = []
    looking: list[Beacon] = []
    return lambda: kind(board, looking)


async def test_a_right_discovery_passes() -> None:
    await check_discovery(maker(Board), within=1)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Blind, "found nobody"),
        (Indiscreet, "node of another network|to another network"),
        (Stubborn, "7005"),
        (Lingering, "still announced"),
        (Littering, "tasks are left behind"),
        (Quitting, "run returned"),
    ],
)
async def test_a_wrong_discovery_is_caught(kind: type[Board], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        await check_discovery(maker(kind), within=0.2)
    for task in Littering.litter:
        task.cancel()


async def test_a_beacon_tells_of_each_turn_once() -> None:
    beacon = FakeBeacon("ours", 7001)
    waiting = asyncio.create_task(beacon.changed())
    await asyncio.sleep(0)
    assert not waiting.done()
    beacon.turn(2)
    await waiting
    assert beacon.names().announce == (rendezvous_name("ours", 2),)
    assert rendezvous_name("ours", 1) in beacon.names().accept
    assert len(rendezvous_name("ours", 2)) == 26
