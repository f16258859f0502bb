"""Deleting an agent's state, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from kairos_core.errors import StoreError
from kairos_core.runtime.state import StateDirectory
from kairos_core.service.purge import purge, require_no_agent


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state directory of an agent that has been."""
    directory = tmp_path / "state"
    StateDirectory(directory).identity()
    (directory / "ledger").mkdir()
    (directory / "ledger/entries").write_text("entries")
    for name in ("election-ab12-kairos.json", "voter-ab12-kairos", "vpn-kairos0.sock"):
        (directory / name).touch()
    return directory


def test_all_that_an_agent_made_goes_and_is_named(state: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "api.sock").touch()
    log = tmp_path / "kairos.log"
    log.touch()
    done = purge(state, run, (log,))
    assert [each for each in (state, run, log) if each.exists()] == []
    assert f"removed {state / 'identity'}" in done
    assert f"removed {state}" in done
    assert purge(state, run, (log,)) == []


def test_files_of_others_stay(state: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "bridge-1").mkdir()
    (state / "photos").mkdir()
    done = purge(state, run)
    assert [path.name for path in state.iterdir()] == ["photos"]
    assert [path.name for path in run.iterdir()] == ["bridge-1"]
    assert done[-1] == f"left {state}: it holds what no agent has made"


def test_the_state_of_an_agent_that_runs_is_not_touched(state: Path, tmp_path: Path) -> None:
    running = StateDirectory(tmp_path / "other")
    with pytest.raises(StoreError, match="in use by another agent"):
        require_no_agent(running.path)
    require_no_agent(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
