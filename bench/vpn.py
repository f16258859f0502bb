"""Our VPN beside others: `./run bench vpn [--profile default|wire] [--loss PCT] [--tests …] [--peers …] [--rounds N]
[--congestion NAME] [--window BYTES]`.

Two machines in a lab, and between them, all up at once: two of our agents that have found each other, as a user
starts them (discovery, gossip, ledger, leases, routing), the bare cable, and the peers, each with addresses of its
own and set up as an administrator would who wants it fast (`tunnels/*.py` say how). What is missing of them is
installed from Debian's packages; where systemd runs, that may start daemons, which do not disturb but stay.

In a round each test runs once for each VPN, one after the other, and who is first changes with each round. Figures
are medians over the rounds: of the values, and of ours divided by a peer's of the same round. `tunnels/course.py`
says what the profiles are and where loss is made, `tunnels/trials.py` what the tests are.

The JSON has `ours` {test: value}, `ratio` {peer: {test: ours / peer}}, `peers` {peer: {test: value}}, `cpu` (what the
daemons cost), `bounds` (what was to be reached, and whether it is), `rounds` (all samples). For `rtt`
and `storm` the values are microseconds beyond the bare cable's, the ratios those of the whole round trips. With loss
the profile is `wire`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from arena.namespace import need
from tunnels import course, figures, trials
from tunnels.copier import Copier, PythonCopier, SealingCopier
from tunnels.nebula import Nebula
from tunnels.openvpn import Openvpn
from tunnels.program import run_to_the_end, tell
from tunnels.tinc import Tinc
from tunnels.tunnel import Bare, Ours, Tunnel
from tunnels.wireguard import WireguardGo

from kairos_core.testing.lab import Lab, LabError

USUAL = (Bare, WireguardGo, Nebula, Openvpn, Tinc)
RULERS = (Copier, SealingCopier, PythonCopier)
"""No VPNs, but what the machine allows any; there when asked for. Those in C need a compiler."""
PEERS: dict[str, type[Tunnel]] = {each.name: each for each in (*USUAL, *RULERS)}
PROGRAMS = {
    "bare": {"iperf3": "iperf3", "ethtool": "ethtool", "ping": "iputils-ping"},
    "wireguard-go": {"wireguard-go": "wireguard-go", "wg": "wireguard-tools"},
    "nebula": {"nebula": "nebula", "nebula-cert": "nebula"},
    "openvpn": {"openvpn": "openvpn", "openssl": "openssl"},
    "tinc": {"tincd": "tinc"},
    "copier": {"cc": "gcc"},
    "copier-aes": {"cc": "gcc"},
    "copier-py": {},
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What to measure; `seconds` is how long one test takes."""

    profile: str
    loss: float
    tests: tuple[str, ...]
    peers: tuple[str, ...]
    rounds: int
    seconds: float
    congestion: str
    window: str


async def race(wish: Wish) -> list[figures.Round]:
    """Bring all up, and measure the rounds. Raises LabError."""
    async with Lab() as lab:
        options = {"congestion": wish.congestion, "window": wish.window}
        track = await course.lay(lab, wish.profile, lossy=wish.loss > 0, **options)
        # Ours first: when it looks for its LAN, nothing is there but the cable.
        tunnels = [Ours(), *[PEERS[name]() for name in wish.peers]]
        for tunnel in tunnels:
            await tunnel.start(track)
            await tunnel.is_up(track)
            tell(f"{tunnel.name} is up")
        if wish.loss:
            await course.lose(track, wish.loss)
        return [await one_round(track, tunnels, wish, number) for number in range(wish.rounds)]


async def one_round(track: course.Course, tunnels: Sequence[Tunnel], wish: Wish, number: int) -> figures.Round:
    """Run each test once for each VPN; the order moves on by one with each round and test."""
    found: dict[str, dict[str, trials.Sample]] = {tunnel.name: {} for tunnel in tunnels}
    for turn, test in enumerate(wish.tests, number):
        first = turn % len(tunnels)
        for tunnel in (*tunnels[first:], *tunnels[:first]):
            others = [other for other in tunnels if other is not tunnel]
            found[tunnel.name][test] = await measured(test, track, tunnel, others, wish.seconds)
        row = "  ".join(f"{name} {samples[test].value:.4g}" for name, samples in found.items())
        tell(f"round {number + 1}, {test}: {row}")
    return found


async def measured(
    test: str, track: course.Course, tunnel: Tunnel, others: Sequence[Tunnel], seconds: float
) -> trials.Sample:
    """Run a test; once more if it fails, since a flooded VPN may lose iperf3's own words too. Raises LabError."""
    try:
        return await trials.measure(test, track, tunnel, others, seconds)
    except LabError as error:
        tell(f"once more: {error}")
        return await trials.measure(test, track, tunnel, others, seconds)


def report(rounds: Sequence[figures.Round], wish: Wish) -> dict[str, Any]:
    """Return the figures as one document."""
    medians, found = figures.values(rounds), figures.ratios(rounds)
    samples = [{name: {test: asdict(s) for test, s in row.items()} for name, row in each.items()} for each in rounds]
    return {
        "ours": medians.pop(figures.OURS),
        "ratio": found,
        "peers": medians,
        "cpu": figures.costs(rounds),
        "bounds": figures.verdicts(found, figures.bounds_of(wish.profile, wish.loss)),
        "rounds": samples,
        "command": asdict(wish),
        "machine": {"cores": os.cpu_count(), "kernel": os.uname().release, "python": sys.version.split()[0]},
    }


def words(known: Sequence[str]) -> Any:
    """Return a reader of a list of these words from the command line."""

    def read(_context: object, _parameter: object, value: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(part for part in value.split(",") if part))
        if unknown := [each for each in found if each not in known]:
            raise click.BadParameter(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return found

    return read


@click.command()
@click.option("--profile", type=click.Choice(course.PROFILES), default="default", show_default=True)
@click.option("--loss", type=click.FloatRange(0, 50), default=0.0, show_default=True, help="Percent of frames lost.")
@click.option("--tests", default=",".join(trials.TESTS), show_default=True, callback=words(list(trials.TESTS)))
@click.option("--peers", default=",".join(each.name for each in USUAL), show_default=True, callback=words(list(PEERS)))
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Medians are over these.")
@click.option("--seconds", default=5.0, show_default=True, help="How long one test takes.")
@click.option(
    "--congestion",
    default=course.congestion_here,
    show_default="the machine's",
    help="Congestion control of the TCP streams, inside all VPNs alike. Linux's own default is cubic.",
)
@click.option(
    "--window",
    default="",
    show_default="the machine's",
    help="Buffer of iperf3's UDP sockets, for all VPNs alike: 2M. Linux's default holds 277 packets of 64 bytes.",
)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(file: Path | None, **options: Any) -> None:
    """Measure our VPN and others side by side."""
    if options["loss"]:
        options["profile"] = "wire"
    if not trials.ROUND_TRIPS.isdisjoint(options["tests"]) and "bare" not in options["peers"]:
        options["peers"] = ("bare", *options["peers"])  # its round trip is what the others are told over
    wish = Wish(**options)
    need(**{program: package for name in ("bare", *wish.peers) for program, package in PROGRAMS[name].items()})
    show(report(run_to_the_end(race(wish)), wish), file)


def show(document: dict[str, Any], file: Path | None) -> None:
    """Print the table and the verdicts, and write the JSON."""
    if file is not None:
        file.write_text(json.dumps(document, indent=2))
    medians = {figures.OURS: document["ours"], **document["peers"]}
    click.echo(figures.table(medians, document["ratio"], document["cpu"]))
    click.echo(
        f"\nTCP: {document['command']['congestion']}; UDP sockets: {document['command']['window'] or 'as they are'}"
    )
    click.echo()
    for verdict in document["bounds"]:
        click.echo(figures.told(verdict))


if __name__ == "__main__":
    main()
