"""How long a cluster takes to form: `./run bench formation [--nodes N] [--ha M] [--rounds R] [--json FILE]`.

Each round grows a new cluster of real agents in a lab of namespaces, as `./run demo` does, and the figures are
medians over the rounds, in seconds from the moment at which all agents run. The engine is the stand-in unless a
real k3s is on the PATH; its time says nothing of k3s' own.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from statistics import median

import click

from kairos_core.testing.agents import Network
from kairos_core.testing.demo import DemoResult, Wish, run_demo
from kairos_core.testing.lab import Lab

STAGES = ("discovered", "roles", "vpn", "engine")


async def one_round(nodes: int, ha_masters: int) -> DemoResult:
    async def present(lab: Lab, result: DemoResult) -> None:
        """Nothing to show."""

    return await run_demo(Wish(Network.new(nodes, ha_masters), nodes), lambda progress: None, present)


async def measure(nodes: int, ha_masters: int, rounds: int) -> dict[str, object]:
    results = []
    for number in range(rounds):
        results.append(await one_round(nodes, ha_masters))
        click.echo(f"round {number + 1}: " + "  ".join(f"{s} {results[-1].seconds[s]:.2f} s" for s in STAGES), err=True)
    split = {stage: sorted(result.seconds[stage] for result in results) for stage in STAGES}
    return {
        "nodes": nodes,
        "ha_masters": ha_masters,
        "rounds": rounds,
        "engine": results[0].engine,
        "median": {stage: median(values) for stage, values in split.items()},
        "max": {stage: values[-1] for stage, values in split.items()},
        "ping_median_ms": median(result.median_ms or 0.0 for result in results),
    }


@click.command()
@click.option("--nodes", default=5, show_default=True, help="Machines in the cluster.")
@click.option("--ha", "ha_masters", default=0, show_default=True, help="Masters beside the first.")
@click.option("--rounds", default=5, show_default=True, help="Clusters to grow; medians are over these.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(nodes: int, ha_masters: int, rounds: int, file: Path | None) -> None:
    """Measure how long a cluster takes to form."""
    figures = asyncio.run(measure(nodes, ha_masters, rounds))
    click.echo(json.dumps(figures, indent=2))
    if file is not None:
        file.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
