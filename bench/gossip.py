"""Our gossip against serf: `./run bench gossip --nodes 20,50 --loss 0,1 [--rounds R] [--json FILE]`.

Both run as real processes on real sockets, encrypted, at the same time in one network namespace, each agent on a
port of its loopback; neither saves to disk. Ours is `kairos_core.testing.gossiper`, a node's gossip without what
serf does not have (Kubernetes, VPN, HTTP). serf has its LAN profile and comes from Debian's package, which is
installed when it is missing. They are measured by the same code in turns, and which is first changes with each
round: see `arena/trials.py`. Loss is drawn by nftables for every packet, TCP and UDP, of both kinds. Bytes are IP
packets as sent. Joining begins when all processes are up, so that loading Python fifty times over on one machine,
which no network does, is left out.

The figures are medians over the rounds, in seconds, bytes, bytes per second; `ratio` is ours divided by serf's.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import click
from arena import figures, namespace
from arena.ours import OURS, Gossiper, fresh_token
from arena.serf import SERF, Serf, fresh_key
from arena.trials import Plan, Sample, Side, run_round


def tell(line: str) -> None:
    click.echo(f"  {line}", err=True)


async def one_round(nodes: int, plan: Plan, number: int) -> dict[str, Sample]:
    """Start both networks, measure them, and end them."""
    wire = namespace.Wire(OURS, SERF)
    token, key = fresh_token(), fresh_key()
    with tempfile.TemporaryDirectory(prefix="kairos-bench-") as directory:
        sides = [
            Side("ours", [Gossiper(each, token) for each in range(nodes)]),
            Side("serf", [Serf(each, key, Path(directory)) for each in range(nodes)]),
        ]
        try:
            await run_round(sides if number % 2 else sides[::-1], wire, plan, tell)
        finally:
            await asyncio.gather(
                *[agent.kill() for side in sides for agent in side.agents if hasattr(agent, "process")]
            )
    return {side.name: side.sample for side in sides}


async def measure(nodes: int, plan: Plan, rounds: int) -> dict[str, figures.Figures]:
    """Measure one number of nodes with one share of loss."""
    samples: dict[str, list[Sample]] = {"ours": [], "serf": []}
    for number in range(1, rounds + 1):
        click.echo(f"{nodes} nodes, {plan.loss} % loss, round {number} of {rounds}", err=True)
        for name, sample in (await one_round(nodes, plan, number)).items():
            samples[name].append(sample)
    row = {name: figures.figures_of(those) for name, those in samples.items()}
    row["ratio"] = figures.ratios(row["ours"], row["serf"])
    row["edgevpn"] = figures.against_edgevpn(row["ours"], nodes)
    return row | {f"worst_{name}": figures.worst_of(those) for name, those in samples.items()}


def report(rows: dict[str, dict[str, figures.Figures]], wish: dict[str, Any]) -> dict[str, Any]:
    """Return the figures as one document: `ratio`, `ours` and `serf`, each under NODES/LOSS, and the rest."""

    def picked(name: str) -> dict[str, figures.Figures]:
        return {key: {each: row[name][each] for each in figures.BOUNDS} for key, row in rows.items()}

    rest = {key: {name: row[name] for name in row if name != "ratio"} for key, row in rows.items()}
    return {"ratio": picked("ratio"), "ours": picked("ours"), "serf": picked("serf"), "all": rest, "command": wish}


@click.command()
@click.option("--nodes", default="20,50", show_default=True, callback=figures.numbers, help="Agents of each kind.")
@click.option(
    "--loss", default="0,1", show_default=True, callback=figures.numbers, help="Percent of all packets that are lost."
)
@click.option("--rounds", default=3, show_default=True, help="Fresh networks to measure; medians are over these.")
@click.option("--updates", default=30, show_default=True, help="Updates in each round.")
@click.option("--rest", default=20.0, show_default=True, help="Seconds of rest that are measured.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(file: Path | None, **wish: Any) -> None:
    """Measure our gossip and serf's side by side."""
    namespace.need(serf="serf")
    namespace.enter()
    rows = {
        f"{nodes}/{loss}": asyncio.run(measure(nodes, Plan(wish["updates"], wish["rest"], loss), wish["rounds"]))
        for nodes in wish["nodes"]
        for loss in wish["loss"]
    }
    document = report(rows, wish)
    click.echo(json.dumps(document["ratio"], indent=2))
    click.echo(figures.table(rows))
    if file is not None:
        file.write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
