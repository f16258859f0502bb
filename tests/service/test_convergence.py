"""When a service is started afresh, and when what runs is left alone. The init system is a fake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kairos_core import Disk, EngineError, File, Home, WantedService, converge_service
from kairos_core.testing.supervisors import FakeSupervisor

HOME = Home("/var/lib/kairos/engine_example", "/etc/example")
UNIT, TOKEN = File("/etc/units/example", "run --all"), File("/etc/example/token", "one")
WANTED = WantedService(
    name="example", read_at_start=(UNIT,), read_later=(TOKEN,), data_directory="/srv", kubeconfig="/etc/example/admin"
)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(HOME, tmp_path)


@pytest.fixture
def supervisor() -> FakeSupervisor:
    return FakeSupervisor()


async def test_what_was_written_and_started_is_in_the_record(disk: Disk, supervisor: FakeSupervisor) -> None:
    await converge_service(supervisor, disk, WANTED)
    assert supervisor.orders() == ["restart example"]
    assert (disk.read(UNIT.path), disk.read(TOKEN.path)) == ("run --all", "one")
    state = disk.state()
    assert (state.service, state.files) == ("example", (UNIT.path, TOKEN.path))
    assert (state.data_directory, state.kubeconfig) == ("/srv", "/etc/example/admin")
    # Another digest of the same files would restart Kubernetes on every machine whose agent is upgraded.
    assert state.running == "973d0ca491f876916abae7f1d9e853b655dcac5e9c0707a72b67b74c6be17d51"


@pytest.mark.parametrize(
    ("wanted", "order"),
    [
        (WANTED, "start example"),
        (replace(WANTED, read_later=()), "start example"),
        (replace(WANTED, read_later=(replace(TOKEN, content="two"),)), "start example"),
        (replace(WANTED, read_at_start=(replace(UNIT, content="run"),)), "restart example"),
        (replace(WANTED, read_at_start=(replace(UNIT, path="/etc/units/other"),)), "restart example"),
        (replace(WANTED, has_news=True), "restart example"),
        (replace(WANTED, name="other"), "restart other"),
    ],
)
async def test_it_is_started_afresh_only_where_it_runs_from_other_files(
    disk: Disk, supervisor: FakeSupervisor, wanted: WantedService, order: str
) -> None:
    await converge_service(supervisor, disk, WANTED)
    supervisor.orders()
    await converge_service(supervisor, disk, wanted)
    assert supervisor.orders() == [order]
    assert disk.state().files == tuple(file.path for file in (*wanted.read_at_start, *wanted.read_later))
    assert all(disk.read(file.path) == file.content for file in (*wanted.read_at_start, *wanted.read_later))
    await converge_service(supervisor, disk, replace(wanted, has_news=False))
    assert supervisor.orders() == [f"start {wanted.name}"]


async def test_what_is_left_out_of_the_comparison_is_written_and_starts_nothing(
    disk: Disk, supervisor: FakeSupervisor
) -> None:
    steady = (replace(UNIT, content="run"),)
    await converge_service(supervisor, disk, replace(WANTED, compared=steady))
    supervisor.orders()
    changed = replace(WANTED, read_at_start=(replace(UNIT, content="run --other"),), compared=steady)
    await converge_service(supervisor, disk, changed)
    assert supervisor.orders() == ["start example"]
    assert disk.read(UNIT.path) == "run --other"
    await converge_service(supervisor, disk, replace(changed, compared=(replace(UNIT, content="walk"),)))
    assert supervisor.orders() == ["restart example"]


async def test_leaving_something_out_for_the_first_time_starts_nothing(disk: Disk, supervisor: FakeSupervisor) -> None:
    await converge_service(supervisor, disk, WANTED)
    supervisor.orders()
    steady = replace(WANTED, compared=(replace(UNIT, content="run"),))
    for content in ("run --all", "run --other"):
        await converge_service(supervisor, disk, replace(steady, read_at_start=(replace(UNIT, content=content),)))
        assert supervisor.orders() == ["start example"]


async def test_a_start_that_failed_is_tried_again_although_the_files_are_written(
    disk: Disk, supervisor: FakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(service: str) -> None:
        raise EngineError(f"{service} does not start")

    changed = replace(WANTED, read_at_start=(replace(UNIT, content="run"),))
    await converge_service(supervisor, disk, WANTED)
    with monkeypatch.context() as patch:
        patch.setattr(supervisor, "restart", fail)
        with pytest.raises(EngineError, match="does not start"):
            await converge_service(supervisor, disk, changed)
    supervisor.orders()
    await converge_service(supervisor, disk, changed)
    assert supervisor.orders() == ["restart example"]
