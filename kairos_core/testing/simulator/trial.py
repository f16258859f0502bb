"""Many seeds of many scenarios, over all processors; and what is told of a run that broke a promise."""

from __future__ import annotations

import gc
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kairos_core.testing.simulator.invariants import Violation
from kairos_core.testing.simulator.scenarios import SCENARIOS, Scenario
from kairos_core.testing.simulator.world import World

CHUNK = 25
"""Seeds that a process takes at once. Raising it costs less between processes, and leaves one working at the end."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that broke a promise."""

    scenario: str
    seed: int
    reason: str
    trace: tuple[str, ...] = field(default=(), repr=False)

    @property
    def replay(self) -> str:
        return f"./run sim --scenario {self.scenario} --seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Run:
    """One seed of one scenario: what happened, in a hash, and what it cost."""

    scenario: str
    seed: int
    fingerprint: str
    seconds: float  # of the processor
    virtual_seconds: float
    datagrams: int
    initialisations: int
    failure: Failure | None = None
    trace: tuple[str, ...] = field(default=(), repr=False)


@dataclass
class Tally:
    """What the runs of one scenario came to."""

    seeds: int = 0
    violations: int = 0
    initialised: int = 0
    seconds: float = 0.0
    virtual_seconds: float = 0.0
    datagrams: int = 0

    def count(self, run: Run) -> None:
        """Add a run."""
        self.seeds += 1
        self.violations += run.failure is not None
        self.initialised += run.initialisations > 0
        self.seconds += run.seconds
        self.virtual_seconds += run.virtual_seconds
        self.datagrams += run.datagrams


@dataclass
class Report:
    """The outcome of a trial."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    jobs: int = 1

    def document(self) -> dict[str, Any]:
        """Return what `--json` writes."""
        seeds = sum(tally.seeds for tally in self.tallies.values())
        return {
            "seeds": seeds,
            "violations": len(self.failures),
            "seconds": round(self.seconds, 1),
            "seeds_per_second": round(seeds / self.seconds, 1) if self.seconds else 0.0,
            "jobs": self.jobs,
            "scenarios": {name: asdict(tally) for name, tally in self.tallies.items()},
            "failures": [{**asdict(failure), "replay": failure.replay} for failure in self.failures],
        }


def play(scenario: Scenario, seed: int, *, traces: bool = False) -> Run:
    """Run one seed. Whatever goes wrong, an error in the code too, is in the run's `failure`.

    `traces` keeps the last events of a run that went well, too.
    """
    began, world, failure = time.process_time(), World(seed), None
    try:
        scenario.play(world)
    except Violation as violation:
        failure = Failure(scenario.name, seed, str(violation), tuple(world.trace))
    except Exception:  # a mistake on this path of events, which only this seed shows
        failure = Failure(scenario.name, seed, traceback.format_exc(limit=-4), tuple(world.trace))
    seconds = time.process_time() - began
    initialised = len(world.watch.initialisations)
    counts = (round(seconds, 6), world.now, world.network.sent, initialised)
    return Run(scenario.name, seed, world.fingerprint, *counts, failure, tuple(world.trace) if traces else ())


def shares(scenarios: Sequence[Scenario], seeds: int) -> dict[str, int]:
    """Divide seeds over scenarios so that each takes about as long; each gets one at least."""
    inverse = {scenario.name: 1 / scenario.weight for scenario in scenarios}
    whole = sum(inverse.values())
    share = {name: max(1, int(seeds * part / whole)) for name, part in inverse.items()}
    lightest = min(scenarios, key=lambda scenario: scenario.weight).name
    share[lightest] += max(0, seeds - sum(share.values()))
    return share


def run_trial(work: dict[str, range], jobs: int, told: Callable[[Run], None] = lambda _: None) -> Report:
    """Run the seeds of each scenario in `jobs` processes; `told` is called for each run as it ends."""
    report, began = Report({name: Tally() for name in work}, jobs=jobs), time.perf_counter()
    for run in _runs(work, jobs):
        report.tallies[run.scenario].count(run)
        if run.failure is not None:
            report.failures.append(run.failure)
        told(run)
    report.seconds = time.perf_counter() - began
    return report


def _runs(work: dict[str, range], jobs: int) -> Iterator[Run]:
    # The heaviest first, so that no process is left alone with one at the end.
    names = sorted(work, key=lambda name: -SCENARIOS[name].weight)
    chunks = [
        (name, work[name][at : at + size])
        for name in names
        for size in [max(1, CHUNK // SCENARIOS[name].weight)]
        for at in range(0, len(work[name]), size)
    ]
    if jobs == 1:
        for chunk in chunks:
            yield from _play_chunk(chunk)
        return
    with multiprocessing.get_context("fork").Pool(jobs, _spare_the_collector) as pool:
        for runs in pool.imap_unordered(_play_chunk, chunks):
            yield from runs


def _spare_the_collector() -> None:
    gc.freeze()  # what is here stays; it need not be walked through again and again
    gc.set_threshold(50_000)


def _play_chunk(chunk: tuple[str, range]) -> list[Run]:
    name, seeds = chunk
    return [play(SCENARIOS[name], seed) for seed in seeds]
