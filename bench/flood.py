"""What a flood of handshakes costs: `./run bench flood [--rate N] [--sources N] [--rounds N] [--seconds S] …`.

Two of our agents as a user starts them, and an attacker on a third machine. It knows the public key of one of the two,
as a member that turned bad does, and sends it handshake initiations with a right mac1 from `--sources` addresses that
are nobody's (`tunnels/spoof.py`). In a round TCP x1 is measured through the VPN towards the target (`tcp1`) and from it
(`rev`), each in turn

    quiet      without the attacker
    control    while the attacker sends the same frames at the same rate to a port of the target that nobody reads
    flood      while it sends them to the VPN

and which comes first changes with each round. Figures are medians over the rounds: of the values, and of those under
the flood divided by the others of the same round.

The bound is held to `quiet`, since that is what the peers notice. It is hard on us: the attacker is a process of the
same machine and takes of the processors that both agents and both iperf3 share. The ratio to `control`, which has that
too, says what the target's data plane alone makes of the flood; it has no bound.

When the rounds are done, the target is flooded until a session has been renewed meanwhile, unless one was already.
The JSON has `gbits` {condition: {test: value}}, `ratio` {condition: {test: flood / condition}}, `cpu` (processors of
the target's data plane), `sent` (frames in a second that the attacker reached), `frames` (all of them, by condition),
`drops` (of the target's VPN, by name), `renewed` (how old the session was then), `bounds` and `rounds` (all samples).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
from arena.namespace import need
from tunnels import course, figures
from tunnels.program import run_to_the_end, tell
from tunnels.siege import SOURCES, Flood, Siege
from tunnels.tunnel import Ours

from kairos_core.testing.lab import Lab
from kairos_core.testing.mesh import ping

TESTS = ("tcp1", "rev")
CONDITIONS = QUIET, CONTROL, FLOOD = "quiet", "control", "flood"
BOUNDS = tuple((figures.Goal(QUIET, test, 0.7),) for test in TESTS)
MAX_SOURCES = 60_000
"""Each has an address of SOURCES and a port of its own."""
REKEY = 120.0
"""Seconds after which a session in use is renewed (WireGuard's REKEY_AFTER_TIME)."""
LATE = 20.0
"""Seconds after that within which a peer has to have got through."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to measure; `seconds` is how long one test takes."""

    profile: str
    rate: int
    sources: int
    rounds: int
    seconds: float
    renewal: bool


@dataclass(frozen=True, slots=True)
class Noted:
    """What the rounds gave. `oldest` is how old a session was at most until it was renewed under the flood, None when
    it was not."""

    rounds: list[figures.Round]
    rates: list[float]
    frames: Mapping[str, int]
    drops: dict[str, int]
    oldest: float | None


async def endure(wish: Wish) -> Noted:
    """Bring all up and measure the rounds. Raises LabError."""
    async with Lab() as lab:
        track = await course.lay(lab, wish.profile, lossy=True)  # on the bridge, where the attacker has a cable too
        attacker = await lab.add("attacker")
        await track.two.run("ip", "route", "add", SOURCES, "via", attacker.ipv4)
        ours = Ours()
        await ours.start(track)
        await ours.is_up(track)
        siege = Siege(track, ours, attacker, Flood(wish.rate, wish.sources))
        watch = Watch(siege)
        rounds = [await one_round(siege, watch, wish, number) for number in range(wish.rounds)]
        if wish.renewal and watch.oldest is None:
            async with siege.attack(FLOOD):
                await watch.until_renewed()
        return Noted(rounds, siege.rates, siege.frames, await siege.drops(), watch.oldest)


class Watch:
    """Looks whether sessions are renewed under the flood."""

    def __init__(self, siege: Siege) -> None:
        self._siege = siege
        self.oldest: float | None = None

    async def look(self, before: float, began: float) -> None:
        """Note a renewal: the session, `before` seconds old when the flood `began`, is younger than the flood now."""
        age, seconds = await self._siege.age(), time.monotonic() - began
        if age < seconds:
            self.oldest = max(self.oldest or 0.0, before + seconds - age)

    async def until_renewed(self) -> None:
        """Send a little until a session is new, but not for ever."""
        before, began = await self._siege.age(), time.monotonic()
        tell(f"the session is {before:.0f} s old: waiting until it is renewed under the flood")
        while self.oldest is None and before + time.monotonic() - began < REKEY + LATE:
            await ping(self._siege.track.one, self._siege.ours.hosts[1])
            await asyncio.sleep(0.5)
            await self.look(before, began)


async def one_round(siege: Siege, watch: Watch, wish: Wish, number: int) -> figures.Round:
    """Run each test once under each condition; the order moves on by one with each round."""
    found: dict[str, dict[str, Any]] = {condition: {} for condition in CONDITIONS}
    first = number % len(CONDITIONS)
    for condition in (*CONDITIONS[first:], *CONDITIONS[:first]):
        async with siege.attack(condition):
            before, began = await siege.age(), time.monotonic()
            for test in TESTS:
                found[condition][test] = await siege.measure(test, wish.seconds)
            if condition == FLOOD:
                await watch.look(before, began)
    row = "  ".join(f"{name} {' / '.join(f'{each[test].value:.3g}' for test in TESTS)}" for name, each in found.items())
    tell(f"round {number + 1}, {' / '.join(TESTS)}: {row}")
    return found


def report(noted: Noted, wish: Wish) -> dict[str, Any]:
    """Return the figures as one document."""
    found = figures.ratios(noted.rounds, FLOOD)
    samples = [
        {name: {test: asdict(s) for test, s in row.items()} for name, row in each.items()} for each in noted.rounds
    ]
    return {
        "gbits": figures.values(noted.rounds),
        "ratio": found,
        "cpu": figures.costs(noted.rounds),
        "sent": round(median(noted.rates)),
        "frames": dict(noted.frames),
        "drops": noted.drops,
        "renewed": noted.oldest,
        "bounds": [*figures.verdicts(found, BOUNDS), renewal(noted.oldest, is_awaited=wish.renewal)],
        "rounds": samples,
        "command": asdict(wish),
        "machine": {"cores": os.cpu_count(), "kernel": os.uname().release, "python": sys.version.split()[0]},
    }


def renewal(oldest: float | None, *, is_awaited: bool) -> dict[str, object]:
    """Judge when sessions were renewed under the flood; without waiting for it, none renewed means nothing."""
    limit = REKEY + LATE
    shown = "not renewed" if oldest is None else f"after {oldest:.0f} s"
    met = None if oldest is None and not is_awaited else oldest is not None and oldest <= limit
    return {"bound": f"a session is renewed within {limit:g} s", "found": shown, "met": met}


def table(document: dict[str, Any]) -> str:
    """Write values, and in brackets those under the flood divided by them; the data plane's processors behind."""
    lines = ["| | TCP towards the target, Gbit/s | TCP from it, Gbit/s | data plane, cores |", "|---|---|---|---|"]
    for condition in CONDITIONS:
        ratio = document["ratio"].get(condition, {})
        cells = [
            f"{document['gbits'][condition][test]:.2f}" + (f" ({ratio[test]:.2f})" if ratio else "") for test in TESTS
        ]
        cores = " / ".join(f"{document['cpu'][condition][test]['cores']:.2f}" for test in TESTS)
        lines.append(f"| {condition} | {' | '.join(cells)} | {cores} |")
    return "\n".join(lines)


@click.command()
@click.option("--profile", type=click.Choice(course.PROFILES), default="default", show_default=True)
@click.option("--rate", type=click.IntRange(1), default=5000, show_default=True, help="Initiations in a second.")
@click.option("--sources", type=click.IntRange(1, MAX_SOURCES), default=10_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Medians are over these.")
@click.option("--seconds", default=5.0, show_default=True, help="How long one test takes.")
@click.option("--renewal/--no-renewal", default=True, show_default=True, help="Wait for one, up to two minutes.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(file: Path | None, **options: Any) -> None:
    """Measure what legitimate peers keep of their throughput under a flood of handshakes."""
    need(iperf3="iperf3", ethtool="ethtool", ping="iputils-ping", nft="nftables")
    wish = Wish(**options)
    show(report(run_to_the_end(endure(wish)), wish), file)


def show(document: dict[str, Any], file: Path | None) -> None:
    """Print the table and the verdicts, and write the JSON."""
    if file is not None:
        file.write_text(json.dumps(document, indent=2))
    click.echo(table(document))
    click.echo(
        f"\nthe attacker sent {document['sent']} frames in a second; dropped by the target: {document['drops']}\n"
    )
    for verdict in document["bounds"]:
        click.echo(figures.told(verdict))


if __name__ == "__main__":
    main()
