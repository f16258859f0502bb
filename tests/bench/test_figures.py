"""From samples to what docs/performance.md quotes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of the benchmark, which are found beside its program."""
    monkeypatch.syspath_prepend(str(BENCH))
    import gossip
    from arena import figures, trials

    return SimpleNamespace(gossip=gossip, figures=figures, Sample=trials.Sample)


def sample(bench: Any, scale: float) -> Any:
    return bench.Sample(
        deliveries=[scale * n for n in range(1, 101)],
        reaches=[scale * n for n in (90, 95, 100)],
        bytes_per_update=100 * scale,
        idle_bytes=10 * scale,
        idle_cpu=0.001,
        rss=1e6 * scale,
        join=scale,
        kill_detect=2 * scale,
    )


def test_a_quantile_is_one_of_the_values_and_infinite_when_there_are_none(bench: Any) -> None:
    assert bench.figures.quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert bench.figures.quantile([1.0], 0.99) == 1.0
    assert bench.figures.quantile([], 0.5) == float("inf")


def test_figures_are_medians_over_rounds_and_the_worst_is_told_beside(bench: Any) -> None:
    rounds = [sample(bench, scale) for scale in (1.0, 2.0, 30.0)]
    assert bench.figures.figures_of(rounds)["join"] == 2.0
    assert bench.figures.figures_of(rounds)["delivery_p99"] == 200.0
    assert bench.figures.worst_of(rounds)["join_max"] == 30.0


def test_the_document_has_the_agreed_names_under_nodes_and_loss(bench: Any) -> None:
    ours, serf = (bench.figures.figures_of([sample(bench, scale)]) for scale in (1.0, 4.0))
    rows = {"20/1": {"ours": ours, "serf": serf, "ratio": bench.figures.ratios(ours, serf)}}
    document = json.loads(json.dumps(bench.gossip.report(rows, {})))
    names = {
        "delivery_p50", "delivery_p99", "all_p99", "bytes_per_update", "idle_bytes", "rss", "kill_detect", "join"
    }  # fmt: skip
    for part in ("ratio", "ours", "serf"):
        assert set(document[part]["20/1"]) == names
    assert set(document["ratio"]["20/1"].values()) == {0.25}
    assert bench.figures.table(rows).count("\n| 20/1 |") == 3


def test_what_edgevpn_sends_is_known_for_its_sizes_only(bench: Any) -> None:
    ours = {"bytes_per_update": 60.9, "idle_bytes": 304.5}
    assert bench.figures.against_edgevpn(ours, 50) == pytest.approx({"bytes_per_update": 0.001, "idle_bytes": 0.001})
    assert bench.figures.against_edgevpn(ours, 51) == {}
