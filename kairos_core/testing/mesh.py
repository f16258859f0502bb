"""Pings between all machines of a lab: when each pair first could, and how long it takes."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Set
from contextlib import suppress
from itertools import permutations
from statistics import median

from kairos_core.testing.lab import LabError, Machine

CONCURRENCY = 8
"""Pings at the same time. More ends sooner and makes the machines that are measured wait for the processor."""

AGAIN = 0.1
"""Seconds until a pair that failed is tried again: the error of the time that `Mesh.reached` holds."""

Pair = tuple[Machine, Machine]


class Mesh:
    """Pings every ordered pair of machines until each has succeeded once."""

    def __init__(self) -> None:
        self.reached: dict[Pair, float] = {}
        """The wall time at which each pair's first ping came back."""
        self._addresses: Mapping[Machine, str] = {}
        self._turns = asyncio.Semaphore(CONCURRENCY)

    def use(self, addresses: Mapping[Machine, str]) -> None:
        """Take the addresses that are known by now."""
        self._addresses = addresses

    async def run(self, pairs: Set[Pair] | None = None) -> None:
        """Ping the pairs that have not yet succeeded, until all of these have, or until cancelled."""
        while pairs is None or not pairs <= self.reached.keys():
            waiting = [pair for pair in permutations(self._addresses, 2) if pair not in self.reached]
            await asyncio.gather(*[self._try(*pair) for pair in waiting])
            await asyncio.sleep(AGAIN)

    async def _try(self, source: Machine, target: Machine) -> None:
        async with self._turns:
            if await ping(source, self._addresses[target], wait=0.5) is not None:
                self.reached[source, target] = time.time()


async def reach(addresses: Mapping[Machine, str], timeout: float) -> None:
    """Wait until every ordered pair has pinged once. Raises LabError that names the pairs that have not."""
    mesh, pairs = Mesh(), set(permutations(addresses, 2))
    mesh.use(addresses)
    pinging = asyncio.create_task(mesh.run(pairs))
    await asyncio.wait([pinging], timeout=timeout)
    pinging.cancel()
    with suppress(asyncio.CancelledError):
        await pinging
    if silent := pairs - set(mesh.reached):
        names = ", ".join(sorted(f"{one.name} -> {other.name}" for one, other in silent))
        raise LabError(f"no ping within {timeout:g} s: {names}")


async def ping(source: Machine, address: str, wait: float = 1.0) -> float | None:
    """Send one echo request and return its round trip in milliseconds, None when nothing came back."""
    output = await source.run("ping", "-n", "-c1", f"-W{wait:g}", address, check=False)
    found = re.search(r"time[=<]([\d.]+) ms", output.stdout)
    return float(found[1]) if found and output.code == 0 else None


async def matrix(addresses: Mapping[Machine, str]) -> dict[Pair, float | None]:
    """Ping every ordered pair once: its round trip in milliseconds, or None."""
    turns = asyncio.Semaphore(CONCURRENCY)

    async def one(pair: Pair) -> tuple[Pair, float | None]:
        async with turns:
            return pair, await ping(pair[0], addresses[pair[1]])

    return dict(await asyncio.gather(*map(one, permutations(addresses, 2))))


def median_ms(results: Mapping[Pair, float | None]) -> float | None:
    """Return the median round trip of the pings that came back, None when none did."""
    times = [result for result in results.values() if result is not None]
    return round(median(times), 3) if times else None
