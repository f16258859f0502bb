"""Where our data plane's time goes: `./run bench vpn_profile [--profile default|wire] [--loss PCT] [--test tcp1]`.

Two agents as in `./run bench vpn`, and one of its tests between them. A probe in both data planes
(`tunnels/probe/sitecustomize.py`, nothing of it is in the product) notes the time in each system call and cipher,
and of the interpreter in between. Told in microseconds for each super-segment, that is for each 60 kB of TCP, and
for tests of packets for each packet that arrived. "10 + 5 (2 calls)" are 10 in both calls of this kind together, and
5 in Python from there to whatever is called next: so what follows a read of the TUN is routing and header work, what
follows a seal is preparing to send. The stages that a side has on its way in are, in a test of TCP, of what it
receives: on the sending machine that is acknowledgements.

The probe slows the data plane; its own cost is taken off the figures, but not off the throughput, which is told for
comparison.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from arena.namespace import need
from tunnels import course, stages, trials
from tunnels.program import run_to_the_end
from tunnels.tunnel import Ours, data_plane

from kairos_core.testing.agents import Agent
from kairos_core.testing.lab import Lab, LabError, Machine, Process

SUPER_SEGMENT = 60_000
PROBE = Path(__file__).resolve().parent / "tunnels" / "probe"
_TOLD = "/run/bench/probe"
_SCRIPT = f"""#!/bin/sh
mkdir -p {_TOLD}
export PYTHONPATH={PROBE} KAIROS_BENCH_PROBE={_TOLD}
exec kairos "$@"
"""


class Probed(Ours):
    """Our agents, with the probe in their data planes."""

    def __init__(self, program: Path) -> None:
        super().__init__()
        self._program = program

    def agent(self, machine: Machine) -> Agent:
        return Agent(machine, str(self._program))


async def read_probe(machine: Machine, agent: Process) -> dict[str, Any]:
    """Return what the probe of a machine's data plane has noted so far. Raises LabError."""
    pid = await data_plane(agent)
    file = machine.path(_TOLD)
    known = {path: path.stat().st_mtime_ns for path in file.glob("*.json")}
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        for path in file.glob("*.json"):
            if known.get(path) != path.stat().st_mtime_ns:
                reading: dict[str, Any] = json.loads(path.read_text())
                return reading
        await asyncio.sleep(0.01)
    raise LabError(f"the data plane of {machine.name} does not tell what it measured within 5 s")


def units_of(test: str, value: float, seconds: float) -> tuple[float, str]:
    """Return how many units a test has carried, and what one is called."""
    if test in ("tcp1", "tcp4", "rev"):
        return value * 1e9 / 8 * seconds / SUPER_SEGMENT, "60 kB"
    if test in trials.ROUND_TRIPS:
        return float(trials.PINGS if test == "storm" else max(1, int(seconds / trials.PAUSE))), "ping"
    return value * 1e3 * seconds, "packet"


async def measure(profile: str, loss: float, test: str, seconds: float, congestion: str) -> dict[str, Any]:
    """Run one test between two agents with probes."""
    async with Lab() as lab:
        track = await course.lay(lab, profile, lossy=loss > 0, congestion=congestion)
        program = lab.directory / "kairos-probed"
        program.write_text(_SCRIPT)
        program.chmod(0o755)
        ours = Probed(program)
        await ours.start(track)
        await ours.is_up(track)
        if loss:
            await course.lose(track, loss)
        pairs = list(zip(track.machines, ours.daemons, strict=True))
        before = [await read_probe(*pair) for pair in pairs]
        sample = await trials.measure(test, track, ours, (), seconds)
        after = [await read_probe(*pair) for pair in pairs]
    units, unit = units_of(test, sample.value, seconds)
    names = ("left, which sends", "right, which receives") if test != "rev" else ("left, receives", "right, sends")
    readings = dict(zip(names, zip(before, after, strict=True), strict=True))
    return {
        "test": test,
        "value": sample.value,
        "unit": unit,
        "sides": {name: stages.between(*pair, units) for name, pair in readings.items()},
        "idle": {name: stages.share_idle(*pair) for name, pair in readings.items()},
    }


@click.command()
@click.option("--profile", type=click.Choice(course.PROFILES), default="default", show_default=True)
@click.option("--loss", default=0.0, show_default=True, help="Percent of frames lost in each direction.")
@click.option("--test", type=click.Choice(list(trials.TESTS)), default="tcp1", show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="How long the test takes.")
@click.option("--congestion", default="", help="Congestion control of the TCP streams; the machine's unless given.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(file: Path | None, **wish: Any) -> None:
    """Measure where the data plane's time goes."""
    need(iperf3="iperf3", ethtool="ethtool", ping="iputils-ping")
    found = run_to_the_end(measure(**wish))
    click.echo(f"{found['test']}: {found['value']:.3f} with the probe in")
    click.echo(stages.table(found["sides"], found["unit"]))
    click.echo("waiting: " + ", ".join(f"{name} {share:.0%}" for name, share in found["idle"].items()))
    if file is not None:
        sides = {name: {stage: asdict(cost) for stage, cost in side.items()} for name, side in found["sides"].items()}
        file.write_text(json.dumps(found | {"sides": sides}, indent=2))


if __name__ == "__main__":
    main()
