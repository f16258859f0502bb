"""Deleting an agent's state, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kairos_core.agent_service.installation import Installation
from kairos_core.agent_service.parts import AgentService
from kairos_core.agent_service.purge import Remains, purge, remove_all, without_agent
from kairos_core.errors import EngineError, StoreError
from kairos_core.model import EngineState
from kairos_core.runtime.state import StateDirectory
from kairos_core.testing.engines import PLAN, FakeEngine


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state directory of an agent that has been."""
    directory = tmp_path / "state"
    agent = StateDirectory(directory)
    agent.identity()
    agent.release()
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


def test_an_agent_that_runs_is_noticed(state: Path, tmp_path: Path) -> None:
    running = StateDirectory(state)
    with pytest.raises(StoreError, match="in use by another agent"), without_agent(state):
        pass
    running.release()
    with without_agent(state), without_agent(tmp_path / "nothing"):
        assert not (tmp_path / "nothing").exists()


class _Stuck(FakeEngine):
    """An engine whose removal fails the first time."""

    is_stuck = True

    async def remove(self) -> None:
        if self.is_stuck:
            self.is_stuck = False
            raise EngineError("cannot delete /var/lib/kubelet: Device or resource busy.")
        await super().remove()


async def test_of_all_that_install_and_start_made_nothing_is_left(state: Path, tmp_path: Path, init: Any) -> None:
    root, run = tmp_path / "root", tmp_path / "run"
    installation, engine = Installation(init, root, is_live=True), FakeEngine()
    installation.install(AgentService(("/opt/kairos/bin/kairos",)), now=True)
    await engine.apply(PLAN)
    remains = Remains(installation, engine, state, run)
    done = await remove_all(remains)
    assert done[:2] == ["stopped the agent", "removed Kubernetes and its data"]
    assert f"removed {state}" in done
    assert done[-1].startswith(f"removed {root}/etc/")
    assert (await engine.status()).state is EngineState.ABSENT
    assert [path for path in root.rglob("*") if not path.is_dir()] == []
    assert not init.running
    assert await remove_all(remains) == []


async def test_what_failed_can_be_done_again(state: Path, tmp_path: Path, init: Any) -> None:
    engine = _Stuck()
    await engine.apply(PLAN)
    remains = Remains(Installation(init, tmp_path / "root", is_live=True), engine, state, tmp_path / "run")
    with pytest.raises(EngineError, match="busy"):
        await remove_all(remains)
    assert (state / "identity").exists()
    await remove_all(remains)
    assert not state.exists()


async def test_kubernetes_stays_while_an_agent_that_is_no_service_runs(state: Path, tmp_path: Path) -> None:
    engine = FakeEngine()
    await engine.apply(PLAN)
    running = StateDirectory(state)
    with pytest.raises(StoreError, match="in use by another agent"):
        await remove_all(Remains(None, engine, state, tmp_path / "run"))
    assert (await engine.status()).state is not EngineState.ABSENT
    running.release()
