"""Ten nodes, each with every other: `./run bench mesh [--nodes N] [--seconds S] [--json FILE]`.

Two of our agents find each other, and after a rest of SETTLE seconds their memory is read; then the others join, and
the same two are read again, so that the difference is what N-2 peers take. `per_peer` counts private memory, which
knows no shared library. Then every node pings every other, and every pair runs iperf3 (one TCP stream of S seconds),
one pair after the other, so that nobody is measured beside another; memory is read once more at the end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import click
from arena.meters import private_bytes, resident_bytes
from arena.namespace import need
from tunnels import iperf, trials
from tunnels.program import run_to_the_end, tell
from tunnels.tunnel import data_plane

from kairos_core.testing.agents import Agent, Network, Status, launch, until
from kairos_core.testing.lab import Lab, Machine
from kairos_core.testing.mesh import matrix, median_ms, reach

FEW = 2
SETTLE = 25.0
"""Seconds until memory is read: an agent gives back after 15 s what only its start needed."""
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one agent and of its data plane, all and private."""

    agent: int
    data_plane: int
    agent_private: int
    data_plane_private: int


async def memory_of(agent: Agent) -> Memory:
    """Read the memory of an agent and of its data plane. Raises LabError."""
    assert agent.process is not None
    pid, plane = await agent.process.pid(), await data_plane(agent.process)
    return Memory(resident_bytes(pid), resident_bytes(plane), private_bytes(pid), private_bytes(plane))


async def grow(agents: list[Agent], machines: Sequence[Machine], network: Network) -> dict[Machine, str]:
    """Start agents on further machines; return all addresses once every pair has pinged. Raises LabError."""
    agents += await launch(machines, network, auto={"enable": False})

    def attached(seen: list[Status]) -> bool:
        return all(status["me"]["address"] for status in seen)

    seen = await until(agents, attached, PATIENCE, f"a VPN of {len(agents)} agents")
    addresses = {agent.machine: str(status["me"]["address"]) for agent, status in zip(agents, seen, strict=True)}
    await reach(addresses, PATIENCE)
    return addresses


async def streams(addresses: Mapping[Machine, str], seconds: float) -> dict[str, float]:
    """Run one TCP stream between each pair, one after the other; return Gbit/s. Raises LabError, ValueError."""
    found = {}
    for one, other in combinations(addresses, 2):
        document = await trials.stream(one, other, addresses[other], seconds)
        found[f"{one.name} -> {other.name}"] = round(iperf.gbits(document), 3)
    return found


def memory_figures(few: Sequence[Memory], many: Sequence[Memory], end: Sequence[Memory], peers: int) -> dict[str, Any]:
    """Return medians in MB, and kB for each of `peers` that came after `few` was read; `many` begins with the same."""
    told: dict[str, Any] = {}
    for part in ("agent", "data_plane"):
        told[f"{part}_mb"] = _mb(many, part)
        told[f"{part}_mb_at_the_end"] = _mb(end, part)
        grown = [getattr(b, f"{part}_private") - getattr(a, f"{part}_private") for a, b in zip(few, many, strict=False)]
        told[f"{part}_kb_per_peer"] = round(median(grown) / peers / 1e3, 1)
    return told


def _mb(read: Sequence[Memory], part: str) -> float:
    return float(round(median(getattr(memory, part) for memory in read) / 1e6, 1))


async def measure(nodes: int, seconds: float) -> dict[str, Any]:
    """Grow the network and measure it. Raises LabError."""
    async with Lab(nodes) as lab:
        network, agents = Network.new(nodes), list[Agent]()
        await grow(agents, lab.machines[:FEW], network)
        await asyncio.sleep(SETTLE)
        few = [await memory_of(agent) for agent in agents]
        addresses = await grow(agents, lab.machines[FEW:], network)
        tell(f"{nodes} nodes ping each other")
        await asyncio.sleep(SETTLE)
        many = [await memory_of(agent) for agent in agents]
        pings = await matrix(addresses)
        rates = await streams(addresses, seconds)
        end = [await memory_of(agent) for agent in agents]
    return {
        "nodes": nodes,
        "ping": {"pairs": len(pings), "ok": sum(p is not None for p in pings.values()), "median_ms": median_ms(pings)},
        "gbits": {"pairs": len(rates), "min": min(rates.values()), "median": round(median(rates.values()), 3)},
        "memory": memory_figures(few, many, end, nodes - FEW),
        "each": rates,
    }


@click.command()
@click.option("--nodes", type=click.IntRange(3, 200), default=10, show_default=True, help="Machines in the mesh.")
@click.option("--seconds", default=2.0, show_default=True, help="How long each pair runs iperf3.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(nodes: int, seconds: float, file: Path | None) -> None:
    """Measure a full mesh of our VPN."""
    need(iperf3="iperf3", ping="iputils-ping")
    figures = run_to_the_end(measure(nodes, seconds))
    if file is not None:
        file.write_text(json.dumps(figures, indent=2))
    click.echo(json.dumps({name: figures[name] for name in figures if name != "each"}, indent=2))
    if figures["ping"]["ok"] < figures["ping"]["pairs"]:
        raise click.ClickException("not every pair pings")


if __name__ == "__main__":
    main()
