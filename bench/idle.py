"""What an agent at rest costs: `./run bench idle [--nodes N] [--seconds S] [--engine] [--json FILE]`.

Brings up a network in a lab, lets it settle, and then measures over S seconds: the processor time and memory of
each agent and of its VPN process, and the bytes that leave each machine's LAN interface, headers included. By
default no Kubernetes runs, so that the bytes are ours alone; with --engine a cluster is grown first, and the
bytes are those of the engine too (its processor time and memory never are).
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from statistics import median

import click

from kairos_core.testing.agents import Agent, Network, Status, install_engine, launch, until
from kairos_core.testing.lab import Lab, Machine

SETTLE = 20.0
"""Seconds after the cluster is ready until the measurement begins: announcements and handshakes are over by then."""

PROGRAMS = {"agent": "kairos\0start", "vpn": "kairos_net_vpn"}


def processes(machine: Machine, marker: str) -> list[Path]:
    """Return the /proc directories of a machine's processes whose command line holds a marker."""
    found = []
    for directory in machine.path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_text()
        except OSError:
            continue
        if marker in command.replace("/kairos\0", "kairos\0"):
            found.append(directory)
    return found


def cpu_seconds(process: Path) -> float:
    """Processor time so far, user and system (proc(5), stat, fields 14 and 15)."""
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(process: Path) -> float:
    return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def sent_bytes(machine: Machine) -> int:
    return int((await machine.run("cat", "/sys/class/net/eth0/statistics/tx_bytes")).stdout)


def is_ready(seen: list[Status]) -> bool:
    return all(status["me"]["engine"] == "ready" for status in seen)


def is_connected(seen: list[Status]) -> bool:
    return all(sum(machine["alive"] for machine in status["machines"]) == len(seen) for status in seen)


async def watch(agent: Agent, seconds: float) -> dict[str, float]:
    machine = agent.machine
    found = {name: processes(machine, marker) for name, marker in PROGRAMS.items()}
    before = {name: sum(map(cpu_seconds, those)) for name, those in found.items()}
    bytes_before = await sent_bytes(machine)
    await asyncio.sleep(seconds)
    figures = {"bytes_per_second": (await sent_bytes(machine) - bytes_before) / seconds}
    for name, those in found.items():
        figures[f"{name}_cpu_percent"] = 100 * (sum(map(cpu_seconds, those)) - before[name]) / seconds
        figures[f"{name}_rss_mb"] = sum(map(resident_mb, those))
    return figures


async def measure(nodes: int, seconds: float, with_engine: bool) -> dict[str, object]:
    async with Lab(nodes) as lab:
        engine = install_engine(lab) if with_engine else "none"
        agents = await launch(lab.machines, Network.new(nodes), auto={"enable": with_engine})
        await until(agents, is_ready if with_engine else is_connected, 60.0, "a network")
        await asyncio.sleep(SETTLE)
        rows = await asyncio.gather(*[watch(agent, seconds) for agent in agents])
    medians = {key: round(median(row[key] for row in rows), 3) for key in rows[0]}
    return {"nodes": nodes, "seconds": seconds, "engine": engine, "median": medians}


@click.command()
@click.option("--nodes", default=5, show_default=True, help="Machines in the cluster.")
@click.option("--seconds", default=60.0, show_default=True, help="How long to measure.")
@click.option("--engine", "with_engine", is_flag=True, help="Grow a cluster first; its traffic is in the bytes.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(nodes: int, seconds: float, with_engine: bool, file: Path | None) -> None:
    """Measure what agents at rest cost."""
    figures = asyncio.run(measure(nodes, seconds, with_engine))
    click.echo(json.dumps(figures, indent=2))
    if file is not None:
        file.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
