"""How the gossip's cost grows: `./run bench scale [--nodes 10,50,100,200] [--entries 100,1000,10000] [--json FILE]`.

Three curves, of `kairos_core.testing.gossiper` in one network namespace, each on a port of its loopback, without
loss. Bytes are IP packets as sent.

nodes        networks of so many processes: join (49 at a time), small updates, rest, memory
entries      networks of three with a ledger of so many entries: two restore it from disk and rest, and then the third,
             empty one joins; how long until it has all, and what does that cost?
differences  two nodes that hold the largest of these ledgers are cut off from each other, each writes five entries,
             and they meet again; what does it cost until they agree?
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import click
from arena import figures, namespace, trials
from arena.agents import Agent
from arena.entries import write_entries
from arena.meters import cpu_seconds, resident_bytes
from arena.ours import OURS, Gossiper, fresh_token
from arena.trials import Plan, Side

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REST = 20.0
UPDATES = 20
PATIENCE = 300.0
AT_ONCE = 49
"""Agents that join at the same moment. Each pair proves to each other that it lives, so hundreds at once would be
tens of thousands of datagrams a second, which as many machines send easily, and two processors do not."""

CUT = 1.5
"""Seconds without a connection: too short for either to count the other as dead."""

Row = dict[str, float]


@asynccontextmanager
async def started(agents: Sequence[Gossiper]) -> AsyncIterator[namespace.Wire]:
    """Start the agents on a new wire, and end them."""
    wire = namespace.Wire(OURS)
    try:
        await asyncio.gather(*[agent.start() for agent in agents])
        yield wire
    finally:
        await asyncio.gather(*[agent.kill() for agent in agents if hasattr(agent, "process")])


async def grow(agents: Sequence[Agent]) -> float:
    """Let the agents join, AT_ONCE at a time; return the seconds that it took in all."""
    took, joined = 0.0, 1
    while joined < len(agents):
        until = min(len(agents), joined + AT_ONCE)
        took += await trials.join(agents[:until], joined)
        joined = until
    return took


async def with_nodes(nodes: int) -> Row:
    """Measure a network of so many nodes."""
    token = fresh_token()
    side = Side("ours", [Gossiper(number, token) for number in range(nodes)])
    async with started([agent for agent in side.agents if isinstance(agent, Gossiper)]) as wire:
        side.sample.join = await grow(side.agents)
        await asyncio.sleep(trials.SETTLE)
        spent = await trials.measure_updates(side, wire, Plan(UPDATES, REST, 0))
        await asyncio.sleep(trials.SETTLE)
        await trials.measure_rest([side], wire, REST)
        trials.note_bytes(side, spent, UPDATES)
    return {"nodes": nodes, **figures.figures_of([side.sample]), **figures.worst_of([side.sample])}


async def agree(agents: Sequence[Gossiper]) -> None:
    """Wait until all hold the same ledger. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        while len({(await agent.ask())["digest"] for agent in agents}) > 1:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.01)


class Meter:
    """What a few agents spend from now on: bytes, processor time, seconds."""

    def __init__(self, agents: Sequence[Gossiper], wire: namespace.Wire) -> None:
        self._agents, self._wire = agents, wire
        self._bytes, self._cpu, self._began = wire.sent()["ours"], self._used(), time.monotonic()

    def read(self) -> Row:
        """Return what was spent so far."""
        seconds = time.monotonic() - self._began
        return {"seconds": seconds, "bytes": self._wire.sent()["ours"] - self._bytes, "cpu": self._used() - self._cpu}

    def _used(self) -> float:
        return sum(cpu_seconds(agent.pid) for agent in self._agents)


async def with_entries(entries: int, directory: Path) -> Row:
    """Measure a ledger of so many entries."""
    token, file = fresh_token(), directory / "entries"
    write_entries(file, token, entries)
    agents = [Gossiper(0, token, file), Gossiper(1, token, file), Gossiper(2, token)]
    async with started(agents) as wire:
        await trials.join(agents[:2])
        await agree(agents[:2])
        await asyncio.sleep(trials.SETTLE)
        rest = Meter(agents[:2], wire)
        await asyncio.sleep(REST)
        resting = rest.read()
        row = {"entries": entries, "restore": agents[0].restored, "rss": float(resident_bytes(agents[0].pid))}
        sync = Meter(agents, wire)
        await agents[2].join(agents[0])
        await agree(agents)
        synced = sync.read()
    row |= {
        "idle_bytes": resting["bytes"] / resting["seconds"] / 2,
        "idle_cpu": resting["cpu"] / resting["seconds"] / 2,
    }
    return row | {f"sync_{name}": value for name, value in synced.items()}


async def with_differences(entries: int, rounds: int, directory: Path) -> Row:
    """Measure how two ledgers that differ in ten entries are brought together."""
    token, file = fresh_token(), directory / "entries"
    write_entries(file, token, entries)
    agents = [Gossiper(0, token, file), Gossiper(1, token, file)]
    rows = []
    async with started(agents) as wire:
        await trials.join(agents)
        await agree(agents)
        for number in range(rounds):
            await asyncio.sleep(trials.SETTLE)
            wire.lose(100)
            for agent in agents:
                for each in range(5):
                    agent.put(f"different/{agent.number}/{each}", f"round {number}".ljust(32, "."))
            await asyncio.sleep(CUT)
            wire.lose(0)
            meter = Meter(agents, wire)
            await agree(agents)
            rows.append(meter.read())
    return {"entries": entries, "differences": 10, **{name: median(row[name] for row in rows) for name in rows[0]}}


async def measure(nodes: Sequence[int], entries: Sequence[int], rounds: int) -> dict[str, Any]:
    """Measure all curves, one point after the other."""
    document: dict[str, Any] = {"nodes": [], "entries": []}
    for count in nodes:
        document["nodes"].append(await with_nodes(count))
        click.echo(f"{count} nodes: {document['nodes'][-1]}", err=True)
    with tempfile.TemporaryDirectory(prefix="kairos-bench-") as name:
        for count in (0, *entries):
            document["entries"].append(await with_entries(count, Path(name)))
            click.echo(f"{count} entries: {document['entries'][-1]}", err=True)
        document["differences"] = await with_differences(max(entries), rounds, Path(name))
    return document


def tables(document: dict[str, Any]) -> str:
    """Write the curves as docs/performance.md shows them."""
    lines = [
        "| nodes | join, s | one delivery p50, ms | all nodes p50, ms | bytes/update/node | idle bytes/s/node | "
        "idle CPU | RSS, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['nodes']} | {row['join']:.2f} | {1e3 * row['delivery_p50']:.1f} | {1e3 * row['all_p50']:.0f} | "
        f"{row['bytes_per_update']:.0f} | {row['idle_bytes']:.0f} | {100 * row['idle_cpu']:.2f} % | "
        f"{row['rss'] / 1e6:.1f} |"
        for row in document["nodes"]
    ]
    lines += [
        "",
        "| entries | RSS, MB | restore, s | idle bytes/s/node | idle CPU | empty node in sync, s | bytes | CPU, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['entries']} | {row['rss'] / 1e6:.1f} | {row['restore']:.2f} | {row['idle_bytes']:.0f} | "
        f"{100 * row['idle_cpu']:.2f} % | {row['sync_seconds']:.2f} | {row['sync_bytes']:.0f} | {row['sync_cpu']:.2f} |"
        for row in document["entries"]
    ]
    row = document["differences"]
    lines += ["", f"{row['entries']} entries, {row['differences']} differences: {row['bytes']:.0f} bytes, "]
    lines[-1] += f"{1e3 * row['cpu']:.1f} ms of processor time of both, {row['seconds']:.2f} s."
    return "\n".join(lines)


@click.command()
@click.option(
    "--nodes", default="10,50,100,200", show_default=True, callback=figures.numbers, help="Sizes of networks."
)
@click.option("--entries", default="100,1000,10000", show_default=True, callback=figures.numbers, help="Ledgers.")
@click.option("--rounds", default=5, show_default=True, help="Reconciliations of ten differences; the median counts.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(nodes: list[int], entries: list[int], rounds: int, file: Path | None) -> None:
    """Measure how the cost of the gossip grows with nodes and entries."""
    namespace.enter()
    document = asyncio.run(measure(nodes, entries, rounds))
    click.echo(tables(document))
    if file is not None:
        file.write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
