"""Whether our VPN endures: `./run bench soak --minutes 60 [--loss 1] [--roam 60] [--mbits 20] [--json FILE]`.

Two of our agents with frames lost between them (1 % each way, on a bridge), a steady load through the VPN
(`tunnels/pulse.py`: an echo 50 times a second, and a TCP stream), rekeying as it comes (every two minutes), and a
machine that gets other addresses every so often. Told: how much the memory of each agent and data plane has grown
from the first tenth of the readings to the last, where the first minute (of a short run: the first fifth) is for
warming up; each time at which nothing came for longer than 0.3 s; the handshakes on the wire; the drops by name. Ends
with 1 when a bound is missed: `tunnels/endurance.py` has them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
from arena.meters import resident_bytes
from arena.namespace import need
from tunnels import course, endurance
from tunnels.program import run_to_the_end, tell
from tunnels.tunnel import Ours, data_plane

from kairos_core.testing.lab import Lab, LabError

PULSE = str(Path(__file__).resolve().parent / "tunnels" / "pulse.py")
WARM_UP = 60.0
READINGS = 200
AWAY = 100
"""What is added to the number of the machine that roams, and taken off again."""


class Soak:
    """One soak on a course where our VPN is up."""

    def __init__(self, track: course.Course, ours: Ours) -> None:
        self._track, self._ours = track, ours
        self._rss: dict[str, list[int]] = defaultdict(list)
        self._roamings = 0

    async def run(self, seconds: float, roam_every: float, mbits: float) -> endurance.Noted:
        """Put the load on and note. Raises LabError when a process ends meanwhile."""
        track, address = self._track, self._ours.hosts[1]
        words, limit = (sys.executable, "-I", PULSE), seconds + 60.0
        beside = [asyncio.create_task(self._read_memory(seconds)), asyncio.create_task(self._roam(roam_every))]
        try:
            served, beaten = await asyncio.gather(
                track.two.run(*words, "serve", address, timeout=limit),
                track.one.run(*words, "beat", address, f"{seconds:g}", f"{mbits:g}", timeout=limit),
            )
            for task in beside:
                if task.done():
                    task.result()  # what ended it
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        heard, said = json.loads(served.stdout), json.loads(beaten.stdout)
        return endurance.Noted(
            self._rss, said["udp"], heard["tcp"], await course.answers(track), self._roamings, said["broken"]
        )

    async def _read_memory(self, seconds: float) -> None:
        await asyncio.sleep(min(WARM_UP, seconds / 5))
        while True:
            for machine, agent in zip(self._track.machines, self._ours.daemons, strict=True):
                self._rss[f"{machine.name} agent"].append(resident_bytes(await agent.pid()))
                self._rss[f"{machine.name} data plane"].append(resident_bytes(await data_plane(agent)))
            await asyncio.sleep(seconds / READINGS)

    async def _roam(self, every: float) -> None:
        machine = self._track.two
        home = machine.link.host
        while every:
            await asyncio.sleep(every)
            here, there = (home, home + AWAY) if self._roamings % 2 == 0 else (home + AWAY, home)
            await course.roam(machine, here, there)
            self._roamings += 1
            tell(f"{time.time():.1f} {machine.name} is at {there} now")


async def measure(minutes: float, loss: float, roam_every: float, mbits: float) -> dict[str, Any]:
    """Run a soak. Raises LabError."""
    async with Lab() as lab:
        track = await course.lay(lab, "wire", lossy=True)
        ours = Ours()
        await ours.start(track)
        await ours.is_up(track)
        planes = [await data_plane(agent) for agent in ours.daemons]
        await course.lose(track, loss)
        noted = await Soak(track, ours).run(60 * minutes, roam_every, mbits)
        if planes != [await data_plane(agent) for agent in ours.daemons]:
            raise LabError("a data plane has died and was started again during the soak")
        drops = [(await agent.status() or {}).get("drops", {}) for agent in ours.agents]
    found = endurance.report(noted, 60 * minutes)
    return {"minutes": minutes, "loss": loss, "roam": roam_every, "mbits": mbits, **found, "drops": drops}


@click.command()
@click.option("--minutes", default=60.0, show_default=True, help="How long.")
@click.option("--loss", type=click.FloatRange(0, 50), default=1.0, show_default=True, help="Percent of frames lost.")
@click.option("--roam", default=60.0, show_default=True, help="Seconds between two changes of address; 0: never.")
@click.option("--mbits", default=20.0, show_default=True, help="The rate of the stream, Mbit/s.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(minutes: float, loss: float, roam: float, mbits: float, file: Path | None) -> None:
    """Measure whether our VPN endures."""
    need(ethtool="ethtool", ping="iputils-ping")
    found = run_to_the_end(measure(minutes, loss, roam, mbits))
    if file is not None:
        file.write_text(json.dumps(found, indent=2))
    click.echo(json.dumps(found, indent=2))
    if missed := [bound for bound, is_met in found["bounds"].items() if not is_met]:
        raise click.ClickException("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
