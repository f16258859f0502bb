"""k3s' service as an operator handles it, in a process that has applied nothing."""

from __future__ import annotations

from pathlib import Path

from kairos_engine_k3s import K3sEngine
from kairos_engine_k3s.launch import HOME, Launch

from kairos_core import Disk, SecretStr
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
