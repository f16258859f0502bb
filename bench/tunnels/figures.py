"""From samples to figures: medians of same-round values and ratios, and the bounds they are held to. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from tunnels.trials import ROUND_TRIPS, Sample

OURS, BARE, WIREGUARD = "ours", "bare", "wireguard-go"

Round = Mapping[str, Mapping[str, Sample]]
"""What one round gave, by VPN and test."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure and its limit: the ratio of ours to a peer's is at least (or, for round trips, at most) `limit`."""

    peer: str
    test: str
    limit: float

    @property
    def words(self) -> str:
        return f"{self.test} {'<=' if self.test in ROUND_TRIPS else '>='} {self.limit:g} x {self.peer}"

    def holds(self, ratio: float) -> bool:
        return ratio <= self.limit if self.test in ROUND_TRIPS else ratio >= self.limit


Bound = tuple[Goal, ...]
"""Goals of which one has to be reached."""

WITHOUT_LOSS: Sequence[Bound] = (
    (Goal(WIREGUARD, "udp64", 4.0),),
    (Goal(WIREGUARD, "udpmix", 1.5),),
    (Goal(WIREGUARD, "rtt", 1.0),),
)
BOUNDS: Mapping[str, Sequence[Bound]] = {
    "default": ((Goal(WIREGUARD, "tcp1", 9.0),), (Goal(BARE, "tcp1", 0.25),), *WITHOUT_LOSS),
    "wire": ((Goal(BARE, "tcp1", 0.45),), *WITHOUT_LOSS),
}
BOUNDS_AT_LOSS: Mapping[float, Sequence[Bound]] = {1.0: ((Goal(BARE, "tcp1", 1.2), Goal(WIREGUARD, "tcp1", 4.5)),)}


def bounds_of(profile: str, loss: float) -> Sequence[Bound]:
    """Return the bounds that a run of this kind is held to; none for a share of loss that was not agreed upon."""
    return BOUNDS_AT_LOSS.get(loss, ()) if loss else BOUNDS[profile]


def values(rounds: Sequence[Round]) -> dict[str, Figures]:
    """Return the median of each test of each VPN; of round trips what they take beyond the bare cable's."""
    return {
        name: {test: round(median(_value(each, name, test) for each in rounds), 4) for test in tests}
        for name, tests in rounds[0].items()
    }


def ratios(rounds: Sequence[Round], subject: str = OURS) -> dict[str, Figures]:
    """Return the median of ours divided by each peer's of the same round; of round trips the whole ones."""
    ours = [each[subject] for each in rounds]
    return {
        peer: {test: round(median(_ratio(a[test], b[peer][test]) for a, b in zip(ours, rounds, strict=True)), 4)
               for test in tests}
        for peer, tests in rounds[0].items()
        if peer != subject
    }  # fmt: skip


def costs(rounds: Sequence[Round]) -> dict[str, dict[str, Figures]]:
    """Return by VPN and test how many processors its daemons kept busy, both machines together, and for tests of
    throughput the gigabits that they move in one second of a processor."""
    return {
        name: {test: _cost([each[name][test] for each in rounds], test) for test in tests}
        for name, tests in rounds[0].items()
        if name != BARE
    }


def verdicts(found: Mapping[str, Figures], bounds: Sequence[Bound]) -> list[dict[str, object]]:
    """Say for each bound what was found and whether it is met; None where it was not measured."""
    return [_verdict(found, bound) for bound in bounds]


def table(medians: Mapping[str, Figures], found: Mapping[str, Figures], spent: Mapping[str, dict[str, Figures]]) -> str:
    """Write the rows of docs/performance.md: value, and in brackets ours divided by it."""
    tests = list(next(iter(medians.values())))
    lines = ["| | " + " | ".join(_HEADS[test] for test in tests) + " | Gbit/s per daemon core |"]
    lines.append("|---" * (len(tests) + 2) + "|")
    for name, row in medians.items():
        cells = [_cell(test, row[test], found.get(name, {}).get(test)) for test in tests]
        per_core = spent.get(name, {}).get("tcp1", {}).get("gbit_per_core")
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {'–' if per_core is None else f'{per_core:.2f}'} |")
    return "\n".join(lines)


def told(verdict: Mapping[str, object]) -> str:
    """Write a verdict as one line."""
    found = verdict["met"]
    met = "not measured" if found is None else "met" if found else "MISSED"
    return f"{met:>12}  {verdict['bound']}: {verdict['found']}"


_HEADS = {
    "tcp1": "TCP x1, Gbit/s", "tcp4": "TCP x4, Gbit/s", "rev": "TCP reverse, Gbit/s", "udp64": "UDP 64 B, kpps",
    "udpmix": "mixed small flows, kpps", "rtt": "RTT, us over bare",
    "storm": "RTT without a pause, us over bare",
}  # fmt: skip


def _value(each: Round, name: str, test: str) -> float:
    value = each[name][test].value
    return value - each[BARE][test].value if test in ROUND_TRIPS and BARE in each and name != BARE else value


def _ratio(ours: Sample, theirs: Sample) -> float:
    return ours.value / theirs.value if theirs.value else float("inf")


def _cost(samples: Sequence[Sample], test: str) -> Figures:
    cost = {"cores": round(median(sample.cpu / sample.seconds for sample in samples), 3)}
    if test in ("tcp1", "tcp4", "rev") and all(sample.cpu for sample in samples):
        moved = median(sample.value * sample.seconds / sample.cpu for sample in samples)
        cost["gbit_per_core"] = round(moved, 3)
    return cost


def _verdict(found: Mapping[str, Figures], bound: Bound) -> dict[str, object]:
    measured = [(goal, found[goal.peer][goal.test]) for goal in bound if goal.test in found.get(goal.peer, {})]
    met = any(goal.holds(ratio) for goal, ratio in measured) if len(measured) == len(bound) else None
    if met is None and any(goal.holds(ratio) for goal, ratio in measured):
        met = True
    shown = ", ".join(f"{ratio:.2f} x {goal.peer}" for goal, ratio in measured) or "-"
    return {"bound": " or ".join(goal.words for goal in bound), "found": shown, "met": met}


def _cell(test: str, value: float, ratio: float | None) -> str:
    shown = f"{value:.2f}" if test in ("tcp1", "tcp4", "rev") else f"{value:.0f}"
    return shown if ratio is None else f"{shown} ({ratio:.2f})"
