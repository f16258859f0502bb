"""When a soak is passed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def soak(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    from tunnels import endurance, pulse

    calm = endurance.Noted({"agent": [100] * 40}, [(5.0, 0.4)], [], answers=30, roamings=60, broken="")
    return SimpleNamespace(endurance=endurance, pulse=pulse, calm=calm)


def missed(soak: Any, noted: Any) -> list[str]:
    bounds = soak.endurance.report(noted, 3600.0)["bounds"]
    return [bound for bound, is_met in bounds.items() if not is_met]


def test_a_calm_hour_is_passed(soak: Any) -> None:
    assert missed(soak, soak.calm) == []


def test_growth_is_from_the_first_tenth_to_the_last_and_no_spike_between_counts(soak: Any) -> None:
    assert soak.endurance.growth([100] * 10 + [900] * 20 + [104] * 10) == pytest.approx(0.04)
    assert soak.endurance.growth([100]) == 0


@pytest.mark.parametrize(
    ("change", "bound"),
    [
        ({"rss": {"agent": [100] * 40, "data plane": [100] * 20 + [106] * 20}}, "RSS"),
        ({"udp": [(5.0, 0.4), (9.0, 1.1)]}, "echo"),
        ({"tcp": [(9.0, 1.1)]}, "stream stands"),
        ({"broken": "Connection timed out"}, "never broken"),
        ({"answers": 27}, "28 to 38 handshakes"),
        ({"answers": 39}, "28 to 38 handshakes"),
    ],
)
def test_each_bound_is_missed_by_itself(soak: Any, change: dict[str, Any], bound: str) -> None:
    [found] = missed(soak, replace(soak.calm, **change))
    assert bound in found


def test_only_silences_worth_telling_are_noted_with_when_they_began(soak: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    fake = SimpleNamespace(monotonic=lambda: clock.now, time=lambda: 5000.0 + clock.now)
    monkeypatch.setattr(soak.pulse, "time", fake)
    silences = soak.pulse.Silences()
    for pause in (0.1, 0.25, 1.5, 0.1):
        clock.now += pause
        silences.end()
    assert silences.found == [(5100.35, 1.5)]
