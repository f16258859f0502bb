"""`./run sim`: exit codes, the figures, and the command that replays a broken promise."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from kairos_core.testing.simulator import Violation, World, scenario
from kairos_core.testing.simulator.__main__ import main
from kairos_core.testing.simulator.scenarios import SCENARIOS
from kairos_core.testing.simulator.trial import play, shares


@pytest.fixture(autouse=True)
def loud_again() -> Iterator[None]:
    """The command silences the nodes' log for good; other tests read it."""
    logger = logging.getLogger("kairos_core")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> str:
    """A scenario whose seed 1 breaks a promise."""

    def breaks_at_seed_one(world: World) -> None:
        world.note(None, "something happens")
        if world.random.random() == Random(1).random():
            raise Violation("the promise of this test")

    name = breaks_at_seed_one.__name__
    monkeypatch.setitem(SCENARIOS, name, scenario.Scenario(name, breaks_at_seed_one, ""))
    return name


def test_seeds_that_hold_exit_with_zero_and_write_their_figures(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "figures.json"
    assert main(["--scenario", "boot_together", "--seeds", "3", "--jobs", "1", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert (figures["seeds"], figures["violations"], figures["failures"]) == (3, 0, [])
    assert figures["scenarios"]["boot_together"]["initialised"] == 3
    assert figures["scenarios"]["boot_together"]["datagrams"] > 0
    assert "3 seeds, 0 violations" in capsys.readouterr().out


def test_a_broken_promise_exits_with_one_and_names_its_replay(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "figures.json"
    assert main(["--scenario", broken, "--seeds", "3", "--jobs", "1", "--json", str(file)]) == 1
    told = capsys.readouterr().out
    assert f"BROKEN in {broken}, seed 1: the promise of this test" in told
    assert f"replay: ./run sim --scenario {broken} --seed 1" in told
    assert "something happens" in told
    [failure] = json.loads(file.read_text())["failures"]
    assert (failure["seed"], failure["replay"]) == (1, f"./run sim --scenario {broken} --seed 1")


def test_a_replay_prints_the_trace_and_tells_by_its_exit_code_whether_the_seed_holds(
    broken: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["--scenario", broken, "--seed", "1"]) == 1
    assert "BROKEN: the promise of this test" in capsys.readouterr().out
    assert main(["--scenario", broken, "--seed", "2"]) == 0


def test_a_replay_is_the_run_that_it_replays(capsys: pytest.CaptureFixture) -> None:
    first = play(SCENARIOS["leader_crash"], 3, traces=True)
    assert main(["--scenario", "leader_crash", "--seed", "3"]) == 0
    told = capsys.readouterr().out
    assert "\n".join(first.trace) in told
    assert f"fingerprint {first.fingerprint}" in told


def test_a_seed_without_its_scenario_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert main(["--seed", "1"]) == 2
    assert "--seed needs --scenario" in capsys.readouterr().err


def test_a_mistake_in_the_code_counts_as_a_broken_promise() -> None:
    def divides(world: World) -> None:
        world.now /= 0

    failure = play(scenario.Scenario("divides", divides, ""), 1).failure
    assert failure is not None
    assert "ZeroDivisionError" in failure.reason


def test_heavy_scenarios_get_few_seeds_and_each_gets_one() -> None:
    share = shares([each for each in SCENARIOS.values() if each.is_for_all], 1000)
    assert sum(share.values()) == 1000
    assert share["big_network"] == 1 < share["lossy"]
