"""Grows a cluster in a lab and measures it: what `kairos demo` shows and its test asserts."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kairos_core.errors import KairosError
from kairos_core.model import Role
from kairos_core.testing.agents import POLL, Agent, Network, Status, describe, install_engine, launch, statuses
from kairos_core.testing.lab import Lab, LabError, Machine
from kairos_core.testing.mesh import Mesh, Pair, matrix, median_ms

STAGES = ("running", "discovered", "roles", "vpn", "engine", "kubeconfig")
LAPTOP = "laptop"
BRIDGE_TIMEOUT = 30.0
"""Seconds for the laptop to join and fetch the kubeconfig."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to grow: a network, on how many machines, and after how many seconds to give up."""

    network: Network
    nodes: int
    timeout: float = 90.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is: `done` of `total`, `seconds` since all agents were running."""

    stage: str
    done: int
    total: int
    seconds: float


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class DemoNode:
    """One node of the finished cluster."""

    name: str
    peer_id: str
    role: str
    vpn_ip: str
    ready: bool


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo has measured. `pings` is by (source name, target name), in milliseconds or None."""

    nodes: tuple[DemoNode, ...]
    seconds: Mapping[str, float]
    pings: Mapping[tuple[str, str], float | None]
    median_ms: float | None
    kubeconfig: str
    engine: str

    def document(self) -> dict[str, Any]:
        """Return the JSON of `kairos demo --json`."""
        answered = sum(result is not None for result in self.pings.values())
        return {
            "nodes": [asdict(node) for node in self.nodes],
            "seconds": dict(self.seconds),
            "ping": {"pairs": len(self.pings), "ok": answered, "median_ms": self.median_ms},
            "kubeconfig": self.kubeconfig,
            "engine": self.engine,
        }

    def fault(self) -> str | None:
        """Say what is wrong with the cluster, None when nothing is."""
        initialisers = [node.name for node in self.nodes if node.role in (Role.MASTER, Role.CLUSTER_INIT)]
        if len(initialisers) != 1:
            return f"one node should have initialised the cluster, not {len(initialisers)}: {initialisers}"
        if lost := [f"{one} -> {other}" for (one, other), result in self.pings.items() if result is None]:
            return f"{len(lost)} of {len(self.pings)} pings over the VPN were lost: {', '.join(lost[:5])}"
        return None


Present = Callable[[Lab, DemoResult], Awaitable[None]]


class Demo:
    """One run of the demo in a lab that has its machines already."""

    def __init__(self, lab: Lab, network: Network, report: Report) -> None:
        self._lab, self._network, self._report = lab, network, report
        self._mesh = Mesh()
        self._agents: list[Agent] = []
        self._seconds: dict[str, float] = {}
        self._seen: list[Status | None] = []
        self._started = 0.0  # wall time at which the last agent was running

    async def run(self, timeout: float) -> DemoResult:
        """Start the agents and follow them until the cluster stands. Raises LabError that says what it waited for.

        Figures count from the moment at which the last agent was running. Pings run from when two addresses
        are known, so the VPN's figure is the first echo of the last pair and not of a later check.
        """
        engine = install_engine(self._lab)
        self._agents = await launch(self._lab.machines, self._network)
        pinging = asyncio.create_task(self._mesh.run())
        try:
            async with asyncio.timeout(timeout):
                await self._follow()
        except TimeoutError:
            waiting = next(stage for stage in STAGES if stage not in self._seconds)
            how_far = describe(self._agents, self._seen or [None] * len(self._agents))
            raise LabError(f"no cluster within {timeout:g} s: still waiting for '{waiting}'.\n{how_far}") from None
        finally:
            pinging.cancel()
            with suppress(asyncio.CancelledError):
                await pinging
        return await self._finish(engine)

    async def _follow(self) -> None:
        while len(self._seconds) < len(STAGES) - 1:
            self._seen = await statuses(self._agents)
            now = time.time()
            answers = [status for status in self._seen if status is not None]
            self._mesh.use(self._addresses())
            for stage, done, total in self._stages(answers):
                self._note(stage, done, total, now, answers)
            await asyncio.sleep(POLL)

    def _stages(self, answers: Sequence[Status]) -> list[tuple[str, int, int]]:
        names = {machine.name for machine in self._lab.machines}
        total = len(names)
        return [
            ("running", len(answers), total),
            ("discovered", sum(names <= _alive(status) for status in answers), total),
            ("roles", sum(status["me"]["role"] is not None for status in answers), total),
            ("vpn", len(self._mesh.reached), total * (total - 1)),
            ("engine", sum(_is_ready(status) for status in answers), total),
        ]

    def _note(self, stage: str, done: int, total: int, now: float, answers: Sequence[Status]) -> None:
        if stage in self._seconds:
            return
        self._started = max((status["milestones"]["started"] for status in answers), default=now)
        is_done = done == total and len(answers) == len(self._agents)
        moment = max(self._mesh.reached.values(), default=now) if stage == "vpn" and is_done else now
        seconds = max(0.0, moment - self._started)
        if is_done:
            self._seconds[stage] = round(seconds, 3)
        self._report(Progress(stage, done, total, seconds))

    def _addresses(self) -> dict[Machine, str]:
        pairs = zip(self._agents, self._seen, strict=True)
        return {agent.machine: s["me"]["address"] for agent, s in pairs if s and s["me"]["address"]}

    async def _finish(self, engine: str) -> DemoResult:
        pings = await matrix(self._addresses())
        kubeconfig = await self._kubeconfig()
        self._report(Progress("kubeconfig", 1, 1, time.time() - self._started))
        return DemoResult(
            nodes=tuple(_node(status) for status in self._seen if status is not None),
            seconds={stage: self._seconds[stage] for stage in ("discovered", "roles", "vpn", "engine")},
            pings={(one.name, other.name): result for (one, other), result in _in_order(pings)},
            median_ms=median_ms(pings),
            kubeconfig=kubeconfig,
            engine=engine,
        )

    async def _kubeconfig(self) -> str:
        """Fetch it as an operator does: from a machine that is no node of the cluster."""
        laptop = await self._lab.add(LAPTOP)
        return await fetch_kubeconfig(laptop, self._network)


async def fetch_kubeconfig(laptop: Machine, network: Network, timeout: float = BRIDGE_TIMEOUT) -> str:
    """Run `kairos bridge` on a machine, and `kairos get-kubeconfig` until it has one. Raises LabError."""
    # Through the environment: arguments can be read by every user of a machine.
    bridge = await laptop.start("kairos", "bridge", env={"EDGEVPNTOKEN": network.token}, log="bridge")
    deadline = time.monotonic() + timeout
    while True:
        answer = await laptop.run("kairos", "get-kubeconfig", check=False)
        if answer.code == 0:
            return answer.stdout
        if not bridge.is_running:
            raise LabError(f"kairos bridge has ended on {laptop.name}:\n{bridge.last_lines()}")
        if time.monotonic() > deadline:
            reason = " ".join(answer.stderr.split())
            raise LabError(f"no kubeconfig through kairos bridge within {timeout:g} s: {reason}")
        await asyncio.sleep(0.3)


async def run_demo(wish: Wish, report: Report, present: Present) -> DemoResult:
    """Make a lab, grow the cluster in it, `present` it while it runs, and clean up.

    Raises KairosError with the reason, where the logs are kept, and their last lines.
    """
    async with Lab(wish.nodes) as lab:
        try:
            result = await Demo(lab, wish.network, report).run(wish.timeout)
            if fault := result.fault():
                raise LabError(fault)
        except KairosError as error:
            raise LabError(f"{error}\n{keep_logs(lab)}") from error
        await present(lab, result)
        return result


def keep_logs(lab: Lab) -> str:
    """Copy the logs of all machines out of the lab; return where they are, and the last lines of each."""
    kept = Path(tempfile.mkdtemp(prefix="kairos-demo-logs-"))
    ends = [f"logs are kept in {kept}"]
    for machine in lab.machines:
        for log in sorted((machine.directory / "log").glob("*.log")):
            copy = Path(shutil.copy(log, kept / f"{machine.name}-{log.name}"))
            lines = copy.read_text(errors="replace").splitlines()
            ends += [f"--- {copy.name}", *lines[-5:]]
    return "\n".join(ends)


def _alive(status: Status) -> set[str]:
    return {machine["name"] for machine in status["machines"] if machine["alive"]}


def _is_ready(status: Status) -> bool:
    return bool(status["me"]["engine"] == "ready")


def _node(status: Status) -> DemoNode:
    me = status["me"]
    return DemoNode(me["name"], me["peer"], me["role"] or "", me["address"] or "", _is_ready(status))


def _in_order(pings: Mapping[Pair, float | None]) -> list[tuple[Pair, float | None]]:
    return sorted(pings.items(), key=lambda item: (item[0][0].link.host, item[0][1].link.host))
