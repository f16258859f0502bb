"""Our VPN under attack: a third machine that floods the second, and what is read of the target meanwhile."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from arena.meters import cpu_seconds

from kairos_core.api.client import ApiClient
from kairos_core.testing.agents import SOCKET
from kairos_core.testing.lab import LabError, Machine, Process
from tunnels import trials
from tunnels.course import CABLE, Course
from tunnels.tunnel import Ours, data_plane

SPOOF = str(Path(__file__).with_name("spoof.py"))
SOURCES = "10.66.0.0/16"
"""Where the spoofed sources lie. The attacker's machine is the way there, and forgets what comes."""
SINK = 9
"""The port of the control (discard, RFC 863)."""
SETTLE = 1.0
"""Seconds of flood before anything is measured, in which the target notices it and the attacker finds its pace."""
UPKEEP = 6.0
"""Seconds until an agent has surely asked its data plane for the counters."""
PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Flood:
    """How many frames in a second, and from how many sources in turn."""

    rate: int
    sources: int


@dataclass(slots=True)
class Siege:
    """Two agents, the second of which is the target, and the attacker. `rates` are those that it reached, `frames` is
    how many it has sent under each condition."""

    track: Course
    ours: Ours
    attacker: Machine
    flood: Flood
    rates: list[float] = field(default_factory=list)
    frames: Counter[str] = field(default_factory=Counter)

    async def measure(self, test: str, seconds: float) -> trials.Sample:
        """Run a test; the processor time is that of the target's data plane. Raises LabError."""
        plane = await data_plane(self.ours.daemons[1])
        before = cpu_seconds(plane)
        sample = await trials.measure(test, self.track, self.ours, (), seconds)
        return replace(sample, cpu=cpu_seconds(plane) - before)

    @asynccontextmanager
    async def attack(self, condition: str) -> AsyncIterator[None]:
        """Attack while this is entered: `flood` the VPN, as `control` a port that nobody reads, `quiet` nothing."""
        if condition == "quiet":
            yield
            return
        target = self.track.two
        member = self.member()
        port = SINK if condition == "control" else int(member["endpoint"].rpartition(":")[2])
        mac = (await target.run("cat", f"/sys/class/net/{CABLE}/address")).stdout.strip()
        words = (CABLE, mac, target.ipv4, str(port), base64.b64decode(member["key"]).hex())
        limits = (str(self.flood.sources), str(self.flood.rate))
        attack = await self.attacker.start(sys.executable, "-I", SPOOF, "flood", *words, *limits, log=f"{time.time()}")
        try:
            await _begun(attack)
            yield
        finally:
            await attack.kill(signal.SIGTERM)
        told = json.loads(attack.last_lines(1))
        self.rates.append(told["sent"] / told["seconds"])
        self.frames[condition] += told["sent"]

    async def age(self) -> float:
        """Return how old the session is, by what the first agent has last asked its data plane. Raises LabError."""
        deadline = time.monotonic() + PATIENCE
        while (age := self.member()["handshake"]) is None:
            if time.monotonic() > deadline:
                raise LabError("the first agent does not know of a session with the target")
            await asyncio.sleep(0.1)
        return float(age)

    def member(self) -> Mapping[str, Any]:
        """Return what the first agent says of the target: its key, its endpoint, the age of their session."""
        client = ApiClient(f"unix://{self.track.one.path(SOCKET)}", {})
        [member] = client.get("networks", "vpn")["members"]
        found: Mapping[str, Any] = member
        return found

    async def drops(self) -> dict[str, int]:
        """Return what the target's VPN has dropped so far, by name."""
        await asyncio.sleep(UPKEEP)
        status = await self.ours.agents[1].status() or {}
        return {name: count for name, count in status.get("drops", {}).items() if name.startswith("vpn_")}


async def _begun(attack: Process) -> None:
    deadline = time.monotonic() + PATIENCE
    while "begun" not in attack.last_lines():
        if not attack.is_running or time.monotonic() > deadline:
            raise LabError(f"the attack does not begin: {attack.last_lines(3)}")
        await asyncio.sleep(0.05)
    await asyncio.sleep(SETTLE)
