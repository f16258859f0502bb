"""From samples to figures: medians over rounds, ratios, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import click

from arena.trials import Sample

BOUNDS = {
    "delivery_p50": 0.10, "delivery_p99": 0.25, "all_p99": 0.6, "bytes_per_update": 1.2, "idle_bytes": 0.75,
    "rss": 2.5, "kill_detect": 1.0, "join": 3.0,
}  # fmt: skip
"""The figures that are compared, and the goal for each: ours divided by serf's."""

EDGEVPN_BLOCK = {20: 27.7e3, 50: 60.9e3, 100: 124e3, 200: 243e3}
"""Bytes that EdgeVPN sends to one node for each update, computed from its wire form: five signed entries a node."""

Figures = dict[str, float]


def numbers(_context: object, _parameter: object, value: str) -> list[int]:
    """Read a list of numbers from the command line."""
    try:
        return [int(part) for part in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 20,50") from None


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of all does not exceed; infinity for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("inf")


def figures_of(samples: Sequence[Sample]) -> Figures:
    """Return the medians over the rounds: seconds, bytes, bytes per second, share of a core."""
    rows = [
        {
            "delivery_p50": quantile(sample.deliveries, 0.5),
            "delivery_p99": quantile(sample.deliveries, 0.99),
            "all_p50": quantile(sample.reaches, 0.5),
            "all_p99": quantile(sample.reaches, 0.99),
            "bytes_per_update": sample.bytes_per_update,
            "idle_bytes": sample.idle_bytes,
            "idle_cpu": sample.idle_cpu,
            "rss": sample.rss,
            "kill_detect": sample.kill_detect,
            "join": sample.join,
        }
        for sample in samples
    ]
    return {name: round(median(row[name] for row in rows), 6) for name in rows[0]}


def worst_of(samples: Sequence[Sample]) -> Figures:
    """Return what a median hides: the slowest join and detection, and what went wrong in all rounds."""
    return {
        "join_max": max(sample.join for sample in samples),
        "kill_detect_max": max(sample.kill_detect for sample in samples),
        "undelivered": sum(sample.undelivered for sample in samples),
        "false_alarms": sum(sample.false_alarms for sample in samples),
    }


def ratios(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Figures:
    """Return ours divided by theirs for each figure that is compared."""
    return {name: round(ours[name] / theirs[name], 4) if theirs[name] else float("inf") for name in BOUNDS}


def against_edgevpn(ours: Mapping[str, float], nodes: int) -> Figures:
    """Return ours divided by what EdgeVPN sends, for the numbers of nodes for which that was computed."""
    block = EDGEVPN_BLOCK.get(nodes)
    if block is None:
        return {}
    idle = block * nodes / 10.0  # every node sends everything again each 10 s
    return {"bytes_per_update": ours["bytes_per_update"] / block, "idle_bytes": ours["idle_bytes"] / idle}


def table(rows: Mapping[str, Mapping[str, Figures]]) -> str:
    """Write the figures as the rows of docs/performance.md; `rows` maps NODES/LOSS to ours, serf, ratio."""
    lines = [
        "| nodes / loss % | | one delivery p50 / p99, ms | all nodes p50 / p99, ms | bytes/update/node | "
        "idle bytes/s/node | idle CPU | RSS, MB | kill known, s | join, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, row in rows.items():
        lines += [_line(key, name, row[name]) for name in ("ours", "serf")]
        shares = row["ratio"]
        lines.append(
            f"| {key} | **ratio** | {shares['delivery_p50']:.2f} / {shares['delivery_p99']:.2f} | "
            f"/ {shares['all_p99']:.2f} | {shares['bytes_per_update']:.2f} | {shares['idle_bytes']:.2f} | | "
            f"{shares['rss']:.2f} | {shares['kill_detect']:.2f} | {shares['join']:.2f} |"
        )
    return "\n".join(lines)


def _line(key: str, name: str, row: Figures) -> str:
    return (
        f"| {key} | {name} | {1e3 * row['delivery_p50']:.1f} / {1e3 * row['delivery_p99']:.0f} | "
        f"{1e3 * row['all_p50']:.0f} / {1e3 * row['all_p99']:.0f} | {row['bytes_per_update']:.0f} | "
        f"{row['idle_bytes']:.0f} | {100 * row['idle_cpu']:.2f} % | {row['rss'] / 1e6:.1f} | "
        f"{row['kill_detect']:.1f} | {row['join']:.2f} |"
    )
