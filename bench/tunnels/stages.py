"""From two readings of the probe (probe/sitecustomize.py) to where the time went between them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STAGES = {
    "wait": "poll", "tun_read": "TUN read", "seal": "AEAD seal", "udp_send": "UDP send",
    "udp_receive": "UDP receive", "open": "AEAD open", "tun_write": "TUN write",
}  # fmt: skip
"""In the order of a packet's journey, first out and then in. The time in `wait` is idle, and is left out."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage cost, for each unit of what was carried: microseconds in its calls, microseconds of the
    interpreter from there to the next call, and the number of calls."""

    inside: float
    python: float
    calls: float


def between(before: Mapping[str, Any], after: Mapping[str, Any], units: float) -> dict[str, Stage]:
    """Return what each stage cost between two readings for each of `units`, the probe's own cost taken off."""
    inside_cost, after_cost = after["own_cost"]
    found = {}
    for name in STAGES:
        old, new = (reading["stages"].get(name, (0, 0, 0)) for reading in (before, after))
        calls, inside, python = (now - then for now, then in zip(new, old, strict=True))
        if name == "wait":
            inside = 0.0
        found[name] = Stage(
            max(0.0, inside - calls * inside_cost) / units / 1e3 if inside else 0.0,
            max(0.0, python - calls * after_cost) / units / 1e3,
            calls / units,
        )
    return found


def share_idle(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """Return the share of the time in which the data plane waited."""
    waited = after["stages"]["wait"][1] - before["stages"]["wait"][1]
    return float(waited) / (after["now"] - before["now"])


def table(sides: Mapping[str, Mapping[str, Stage]], unit: str) -> str:
    """Write microseconds for each unit; in each cell the call, + the interpreter until the next, and the calls."""
    lines = [f"| us for each {unit} | " + " | ".join(sides) + " |", "|---" * (len(sides) + 1) + "|"]
    for name, title in STAGES.items():
        lines.append(f"| {title} | " + " | ".join(_cell(side[name]) for side in sides.values()) + " |")
    lines.append("| **all** | " + " | ".join(_sum(side) for side in sides.values()) + " |")
    return "\n".join(lines)


def _cell(stage: Stage) -> str:
    return f"{stage.inside:.1f} + {stage.python:.1f} ({stage.calls:.1f} calls)"


def _sum(side: Mapping[str, Stage]) -> str:
    inside, python = (sum(getattr(stage, part) for stage in side.values()) for part in ("inside", "python"))
    return f"{inside:.1f} + {python:.1f} = {inside + python:.1f}"
