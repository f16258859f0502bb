"""One round of the benchmark: both kinds of agents up at once, measured in turns, first one first, then the other.

join      from the order to all agents to join the first, until every one sees every one
updates   one agent after the other writes a small update; when does each other agent have it?
rest      nothing happens but failure detection; both kinds at the same time, each counted for itself
kill      one agent of each kind gets SIGKILL at the same time; when do all survivors know?
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from arena.agents import Agent, State
from arena.meters import cpu_seconds, resident_bytes
from arena.namespace import Wire

LOOK = 0.1
"""Seconds between two questions to an agent. Less is a finer clock and costs the agents more."""

SETTLE = 5.0
"""Seconds after a join until updates are measured, so that what the join left to do is done."""

UPDATE_PATIENCE = 10.0
"""Seconds after which an update counts as not delivered."""

PAUSE = 0.3
"""Seconds between an update that all have and the next, so that its echoes are counted and disturb nobody."""

PATIENCE = 180.0
"""Seconds for a join, and for a death to be known, until the benchmark gives up."""


@dataclass
class Sample:
    """What one kind of agents did in one round. Times are seconds; `undelivered` counts (update, agent) pairs."""

    deliveries: list[float] = field(default_factory=list)
    reaches: list[float] = field(default_factory=list)
    undelivered: int = 0
    bytes_per_update: float = 0.0
    idle_bytes: float = 0.0
    idle_cpu: float = 0.0
    rss: float = 0.0
    join: float = 0.0
    kill_detect: float = 0.0
    false_alarms: int = 0


@dataclass(frozen=True, slots=True)
class Side:
    """The agents of one kind, and what is noted of them."""

    name: str
    agents: Sequence[Agent]
    sample: Sample = field(default_factory=Sample)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured: updates in a round, seconds of rest, percent of all packets lost."""

    updates: int
    rest: float
    loss: int


async def run_round(sides: Sequence[Side], wire: Wire, plan: Plan, tell: Callable[[str], None]) -> None:
    """Measure one round; the agents are left running. Fills the samples. Raises TimeoutError."""
    for side in sides:
        await asyncio.gather(*[agent.start() for agent in side.agents])
    wire.lose(plan.loss)
    for side in sides:
        side.sample.join = await join(side.agents)
        tell(f"{side.name}: join {side.sample.join:.2f} s")
    await asyncio.sleep(SETTLE)
    spent = [await measure_updates(side, wire, plan) for side in sides]
    await asyncio.sleep(SETTLE)
    await measure_rest(sides, wire, plan.rest)
    for side, each in zip(sides, spent, strict=True):
        note_bytes(side, each, plan.updates)
        tell(f"{side.name}: {side.sample.bytes_per_update:.0f} B/update, {side.sample.idle_bytes:.0f} B/s idle")
    await asyncio.gather(*[_measure_kill(side) for side in sides])
    tell(", ".join(f"{side.name}: kill known after {side.sample.kill_detect:.2f} s" for side in sides))


async def join(agents: Sequence[Agent], joined: int = 1) -> float:
    """Let all agents but those that have joined already join the first; return the seconds until all see all."""
    began = time.monotonic()
    await asyncio.gather(*[agent.join(agents[0]) for agent in agents[joined:]])
    return await _when_all(agents, lambda state: state.alive >= len(agents)) - began


async def _when_all(agents: Sequence[Agent], is_so: Callable[[State], bool]) -> float:
    """Ask each agent until it is so once; return when the last one said it."""

    async def watch(agent: Agent) -> float:
        await asyncio.sleep(random.uniform(0, LOOK))  # not all at the same moment
        while not is_so(await agent.state()):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(LOOK)
        return time.monotonic()

    async with asyncio.timeout(PATIENCE):
        return max(await asyncio.gather(*map(watch, agents)))


class Arrivals:
    """When each agent has heard of the update that is on its way."""

    def __init__(self, agents: Sequence[Agent]) -> None:
        self._agents = agents
        self.times: dict[int, float] = {}
        self._update, self._origin = "", agents[0]
        self._complete = asyncio.Event()
        for agent in agents:
            agent.heard = self._heard

    async def spread(self, update: str, origin: Agent) -> list[float]:
        """Let one agent write; return the seconds until each other one that came to know had it."""
        self._update, self._origin = update, origin
        self.times.clear()
        self._complete.clear()
        began = time.monotonic()
        await origin.write(update)
        with suppress(TimeoutError):  # who asked counts what is missing
            await asyncio.wait_for(self._complete.wait(), UPDATE_PATIENCE)
        return [when - began for when in self.times.values()]

    def _heard(self, agent: Agent, update: str, when: float) -> None:
        if update != self._update or agent is self._origin:
            return
        self.times.setdefault(agent.number, when)
        if len(self.times) == len(self._agents) - 1:
            self._complete.set()


async def measure_updates(side: Side, wire: Wire, plan: Plan) -> tuple[int, float]:
    """Spread the updates; return the bytes that all agents sent meanwhile, and how long it took."""
    arrivals, others = Arrivals(side.agents), len(side.agents) - 1
    before, began = wire.sent()[side.name], time.monotonic()
    for number in range(plan.updates):
        times = await arrivals.spread(f"u{number}", random.choice(side.agents))
        side.sample.deliveries += times
        side.sample.undelivered += others - len(times)
        side.sample.reaches.append(max(times) if len(times) == others else UPDATE_PATIENCE)
        await asyncio.sleep(PAUSE)
    await asyncio.sleep(2.0)  # serf repeats an event for a while
    return wire.sent()[side.name] - before, time.monotonic() - began


def note_bytes(side: Side, spent: tuple[int, float], updates: int) -> None:
    """Note the bytes for each update and agent: what was sent meanwhile, less what is sent at rest."""
    sent, seconds = spent
    side.sample.bytes_per_update = (sent / len(side.agents) - side.sample.idle_bytes * seconds) / updates


async def measure_rest(sides: Sequence[Side], wire: Wire, seconds: float) -> None:
    """Note what all kinds cost while nothing happens, and how many agents are thought dead that are not."""
    before, cpu, began = wire.sent(), [_cpu(side) for side in sides], time.monotonic()
    await asyncio.sleep(seconds)
    after, took = wire.sent(), time.monotonic() - began
    for side, used in zip(sides, cpu, strict=True):
        count, sample = len(side.agents), side.sample
        sample.idle_bytes = (after[side.name] - before[side.name]) / took / count
        sample.idle_cpu = (_cpu(side) - used) / took / count
        sample.rss = sorted(resident_bytes(agent.pid) for agent in side.agents)[count // 2]
        states = await asyncio.gather(*[agent.state() for agent in side.agents])
        sample.false_alarms = sum(len(state.dead) for state in states)


def _cpu(side: Side) -> float:
    return sum(cpu_seconds(agent.pid) for agent in side.agents)


async def _measure_kill(side: Side) -> None:
    victim = random.choice(side.agents[1:])
    survivors = [agent for agent in side.agents if agent is not victim]
    began = time.monotonic()
    await victim.kill()
    side.sample.kill_detect = await _when_all(survivors, lambda state: victim.name in state.dead) - began
