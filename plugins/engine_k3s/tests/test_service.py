"""k3s' service as an operator handles it, in a process that has applied nothing."""

from __future__ import annotations

from pathlib import Path

from kairos_engine_k3s import K3sEngine
from kairos_engine_k3s.launch import HOME, Launch

from kairos_core import Disk, EngineState, SecretStr
from kairos_core.service.child import Child

TOKEN = "the secret of the cluster"
LAUNCH = Launch("k3s", ("server",), {"K3S_TOKEN": SecretStr(TOKEN), "K3S_URL": SecretStr("https://10.1.0.2:6443")})


async def test_where_nothing_was_applied_there_is_no_service(tmp_path: Path) -> None:
    assert await K3sEngine(root=tmp_path, supervisor=Child(HOME, tmp_path)).service() is None


async def test_its_log_shows_neither_tokens_nor_logins_but_the_servers_address(tmp_path: Path) -> None:
    disk, supervisor = Disk(HOME, tmp_path), Child(HOME, tmp_path)
    disk.converge(supervisor.files(LAUNCH.definition, "/usr/local/bin/k3s"))
    disk.remember(service="k3s")
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/k3s.log").write_text(
        f"joining https://10.1.0.2:6443 with {TOKEN}\n"
        "token K10deadbeef0123::server:abcdef\n"
        "datastore postgres://joe:secret@db/k3s\n"
    )
    service = await K3sEngine(root=tmp_path, supervisor=supervisor).service()
    assert service is not None
    assert service.name == "k3s"
    assert [line async for line in service.log(10)] == [
        "joining https://10.1.0.2:6443 with …",
        "token K10…",
        "datastore postgres://…@db/k3s",
    ]


async def test_how_it_does_is_told_from_the_disk_by_who_has_applied_nothing(tmp_path: Path) -> None:
    disk, supervisor = Disk(HOME, tmp_path), Child(HOME, tmp_path)
    engine = K3sEngine(root=tmp_path, supervisor=supervisor)
    assert (await engine.status()).state is EngineState.ABSENT
    launch = Launch("k3s", ("server", "--data-dir=/var/lib/rancher/k3s"), {"K3S_TOKEN": SecretStr("hush-hush")})
    disk.converge(supervisor.files(launch.definition, "/usr/local/bin/k3s"))
    disk.remember(service="k3s", data_directory=launch.data_directory, health_port=10248)
    (tmp_path / "var/log").mkdir(parents=True)
    (tmp_path / "var/log/k3s.log").write_text('level=fatal msg="starting kubernetes: failed with hush-hush"\n')
    status = await engine.status()
    assert status.state is EngineState.FAILED
    assert status.message == "k3s has ended; k3s says: starting kubernetes: failed with …"


async def test_a_record_that_is_damaged_is_a_failure(tmp_path: Path) -> None:
    record = tmp_path / "var/lib/kairos/engine_k3s/state.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    status = await K3sEngine(root=tmp_path, supervisor=Child(HOME, tmp_path)).status()
    assert (status.state, "cannot be read" in status.message) == (EngineState.FAILED, True)
