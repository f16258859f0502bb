"""k0s' service as an operator handles it, in a process that has applied nothing."""

from __future__ import annotations

from pathlib import Path

from kairos_engine_k0s import K0sEngine
from kairos_engine_k0s.launch import HOME, Launch

from kairos_core import Disk, EngineState, SecretStr
from kairos_core.service.child import Child

LAUNCH = Launch("k0sworker", ("worker",), {"K0S_TOKEN": SecretStr("my-own-secret")})


async def test_where_nothing_was_applied_there_is_no_service(tmp_path: Path) -> None:
    assert await K0sEngine(root=tmp_path, supervisor=Child(HOME, tmp_path)).service() is None


async def test_its_log_shows_neither_tokens_nor_logins(tmp_path: Path) -> None:
    disk, supervisor = Disk(HOME, tmp_path), Child(HOME, tmp_path)
    disk.converge(supervisor.files(LAUNCH.definition, "/usr/local/bin/k0s"))
    disk.remember(service="k0sworker")
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/k0sworker.log").write_text(
        "joining with my-own-secret\ntoken abcdef.0123456789abcdef\ndatastore postgres://joe:secret@db/k0s\n"
    )
    service = await K0sEngine(root=tmp_path, supervisor=supervisor).service()
    assert service is not None
    assert service.name == "k0sworker"
    assert [line async for line in service.log(10)] == [
        "joining with …",
        "token …",
        "datastore postgres://…@db/k0s",
    ]


async def test_how_it_does_is_told_from_the_disk_by_who_has_applied_nothing(tmp_path: Path) -> None:
    disk, supervisor = Disk(HOME, tmp_path), Child(HOME, tmp_path)
    engine = K0sEngine(root=tmp_path, supervisor=supervisor)
    assert (await engine.status()).state is EngineState.ABSENT
    launch = Launch("k0scontroller", ("controller",), {"K0S_TOKEN": SecretStr("hush-hush")})
    disk.converge(supervisor.files(launch.definition, "/usr/local/bin/k0s"))
    disk.remember(service="k0scontroller", data_directory=launch.data_directory, health_port=10248)
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/k0scontroller.log").write_text("Error: cannot start with hush-hush\n")
    status = await engine.status()
    assert status.state is EngineState.FAILED
    assert status.message == "k0s has ended; k0s says: cannot start with …"


async def test_a_record_that_is_damaged_is_a_failure(tmp_path: Path) -> None:
    record = tmp_path / "var/lib/kairos/engine_k0s/state.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    status = await K0sEngine(root=tmp_path, supervisor=Child(HOME, tmp_path)).status()
    assert (status.state, "cannot be read" in status.message) == (EngineState.FAILED, True)
