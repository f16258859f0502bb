"""The tests, each for one VPN at a time while all are up.

tcp1     one TCP stream, Gbit/s received              rev      the same, from the second machine to the first
tcp4     four at once, together                       udp64    datagrams of 64 bytes at any rate: thousands each second
udpmix   mixed small flows (mixture.py): datagrams received, and two for each transaction, in thousands each second
rtt      the median round trip of a ping after a pause, in microseconds: what a request meets whose peer has slept
storm    the same without a pause between pings: nobody sleeps, so it shows what the work alone takes
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kairos_core.testing.lab import LabError, Machine, Process
from tunnels import iperf
from tunnels.course import Course
from tunnels.tunnel import Traffic, Tunnel

PORT = 5201
PINGS = 4000
"""Of a storm, at most."""
PAUSE = 0.01
"""Seconds between pings of `rtt`: long enough that every process on the way has gone to sleep."""
PAYLOAD = 64
GRACE = 30.0
"""Seconds beyond its own that a test may take until it counts as failed."""

STRAY = 0.1
"""The share of a test's bytes that may cross another VPN meanwhile (keepalives, probes); more, and one VPN runs through
another, which would be measured instead."""

_MIXTURE = str(Path(__file__).with_name("mixture.py"))


@dataclass(frozen=True, slots=True)
class Sample:
    """What one test of one VPN gave: its value, the seconds of load, and the processor seconds of all daemons."""

    value: float
    seconds: float
    cpu: float


async def tcp1(course: Course, tunnel: Tunnel, seconds: float) -> float:
    return await _tcp(course, tunnel, seconds)


async def tcp4(course: Course, tunnel: Tunnel, seconds: float) -> float:
    return await _tcp(course, tunnel, seconds, "--parallel", "4")


async def rev(course: Course, tunnel: Tunnel, seconds: float) -> float:
    return await _tcp(course, tunnel, seconds, "--reverse")


async def _tcp(course: Course, tunnel: Tunnel, seconds: float, *options: str) -> float:
    congestion = ("--congestion", course.congestion) if course.congestion else ()
    return iperf.gbits(await _iperf(course, tunnel, seconds, *options, *congestion))


async def udp64(course: Course, tunnel: Tunnel, seconds: float) -> float:
    window = ("--window", course.window) if course.window else ()
    load = ("--udp", "--bitrate", "0", "--length", str(PAYLOAD), *window)
    return iperf.kpps(await _iperf(course, tunnel, seconds, *load), PAYLOAD)


async def udpmix(course: Course, tunnel: Tunnel, seconds: float) -> float:
    words = (sys.executable, "-I", _MIXTURE)
    limit = seconds + GRACE
    received, sent = await asyncio.gather(
        course.two.run(*words, "serve", tunnel.hosts[1], f"{seconds:g}", timeout=limit),
        course.one.run(*words, "offer", tunnel.hosts[1], f"{seconds:g}", timeout=limit),
    )
    arrived = json.loads(received.stdout)["received"] + 2 * json.loads(sent.stdout)["transactions"]
    return float(arrived) / seconds / 1e3


async def rtt(course: Course, tunnel: Tunnel, seconds: float) -> float:
    return await _pings(course, tunnel, seconds, PAUSE, max(1, int(seconds / PAUSE)))


async def storm(course: Course, tunnel: Tunnel, seconds: float) -> float:
    # -i 0 is the pace of -f (the next as soon as the last is back), but prints each round trip.
    return await _pings(course, tunnel, seconds, 0, PINGS)


async def _pings(course: Course, tunnel: Tunnel, seconds: float, pause: float, count: int) -> float:
    limit = f"{max(1, round(seconds))}"
    words = ("ping", "-n", "-i", f"{pause:g}", "-c", str(count), "-w", limit, tunnel.hosts[1])
    output = await course.one.run(*words, check=False, timeout=seconds + GRACE)
    return iperf.median_round_trip(output.stdout + output.stderr)


Test = Callable[[Course, Tunnel, float], Awaitable[float]]
TESTS: dict[str, Test] = {test.__name__: test for test in (tcp1, tcp4, rev, udp64, udpmix, rtt, storm)}
ROUND_TRIPS = frozenset({"rtt", "storm"})
"""Tests of which less is better."""


async def measure(name: str, course: Course, tunnel: Tunnel, others: Sequence[Tunnel], seconds: float) -> Sample:
    """Run one test of one VPN. Raises LabError, also when another VPN carried a part of it."""
    before = {each.name: await each.traffic(course) for each in (tunnel, *others)}
    began = time.monotonic()
    try:
        value = await TESTS[name](course, tunnel, seconds)
    except ValueError as error:
        raise LabError(f"{name} over {tunnel.name}: {error}") from error
    took = time.monotonic() - began
    after = {each.name: await each.traffic(course) for each in (tunnel, *others)}
    if stray := strays(tunnel.name, before, after):
        raise LabError(f"{name} over {tunnel.name} went through {stray} too: its underlay must be the cable alone")
    # iperf3 and its like need a while to start and end, in which nothing is carried; ping ends when it has its answers.
    return Sample(value, took if name in ROUND_TRIPS else seconds, after[tunnel.name].cpu - before[tunnel.name].cpu)


def strays(name: str, before: dict[str, Traffic], after: dict[str, Traffic]) -> str | None:
    """Return the VPN that carried a part of what was meant for another, None when none has; bare carries all."""
    grown = {each: after[each].octets - before[each].octets for each in before}
    suspects = {each: octets for each, octets in grown.items() if each not in (name, "bare")}
    return next((each for each, octets in suspects.items() if octets > STRAY * grown[name]), None)


async def stream(client: Machine, server: Machine, address: str, seconds: float, *options: str) -> Any:
    """Run iperf3 from one machine to an address of another; return its JSON. Raises LabError."""
    words = ("--server", "--one-off", "--bind", address, "--port", str(PORT))
    serving = await server.start("iperf3", *words, log="iperf3-server")
    try:
        words = ("--client", address, "--time", f"{seconds:g}", *options)
        return await _client(client, serving, seconds + GRACE, *words)
    finally:
        await serving.kill()


async def _iperf(course: Course, tunnel: Tunnel, seconds: float, *options: str) -> Any:
    return await stream(course.one, course.two, tunnel.hosts[1], seconds, *options)


async def _client(client: Machine, server: Process, patience: float, *words: str) -> Any:
    """Run the client, again while the server is starting."""
    deadline = time.monotonic() + 10.0
    while True:
        output = await client.run("iperf3", "--json", "--port", str(PORT), *words, check=False, timeout=patience)
        with suppress(ValueError):
            document = json.loads(output.stdout)
            if "unable to connect" not in (iperf.refusal(document) or ""):
                return document
        if not server.is_running or time.monotonic() > deadline:
            raise LabError(f"iperf3 does not answer: {server.last_lines(3)} {output.stderr.strip()}")
        await asyncio.sleep(0.05)
