"""k3s' service as an operator handles it: whether there is one, and its log without secrets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from kairos_engine_k3s import K3sEngine
from kairos_engine_k3s.launch import HOME, Launch

from kairos_core import Disk, EngineError, SecretStr, Supervisor
from kairos_core.service.child import Child
from kairos_core.service.openrc import OpenRc
from kairos_core.service.systemd import Systemd

TOKEN = "the secret of the cluster"
LAUNCH = Launch("k3s", ("server",), {"K3S_TOKEN": SecretStr(TOKEN), "K3S_URL": SecretStr("https://10.1.0.2:6443")})


@pytest.fixture
def engine(tmp_path: Path) -> K3sEngine:
    """An engine in a new process, on a machine where one has applied a plan before."""
    disk, supervisor = Disk(HOME, tmp_path), Child(HOME, tmp_path)
    disk.converge(supervisor.files(LAUNCH.definition, "/usr/local/bin/k3s"))
    disk.remember(service="k3s")
    return K3sEngine(root=tmp_path, supervisor=supervisor)


def _write(root: Path, *lines: str) -> None:
    log = root / "var/log/k3s.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


async def _log(engine: K3sEngine, lines: int) -> list[str]:
    service = await engine.service()
    assert service is not None
    return [line async for line in service.log(lines)]


async def test_where_nothing_was_applied_there_is_no_service(tmp_path: Path) -> None:
    assert await K3sEngine(root=tmp_path, supervisor=Child(HOME, tmp_path)).service() is None


async def test_it_is_the_one_that_was_applied_and_says_whether_it_runs(engine: K3sEngine) -> None:
    service = await engine.service()
    assert service is not None
    assert service.name == "k3s"
    assert not await service.is_running()


async def test_the_last_lines_of_the_log_are_printed(engine: K3sEngine, tmp_path: Path) -> None:
    _write(tmp_path, *(f"line {number}" for number in range(10)))
    assert await _log(engine, 3) == ["line 7", "line 8", "line 9"]


async def test_secrets_are_blotted_out_and_the_servers_address_is_not(engine: K3sEngine, tmp_path: Path) -> None:
    _write(
        tmp_path,
        f"joining https://10.1.0.2:6443 with {TOKEN}",
        "token K10deadbeef0123::server:abcdef",
        "datastore postgres://joe:secret@db/k3s",
    )
    assert await _log(engine, 10) == [
        "joining https://10.1.0.2:6443 with …",
        "token K10…",
        "datastore postgres://…@db/k3s",
    ]


async def test_a_log_that_is_followed_goes_on_and_ends_with_who_reads_it(engine: K3sEngine, tmp_path: Path) -> None:
    service = await engine.service()
    assert service is not None
    _write(tmp_path, "first")
    seen = []
    async with asyncio.timeout(30):
        log = service.log(1, follow=True)
        async for line in log:
            seen.append(line)
            if len(seen) == 2:
                break
            _write(tmp_path, f"then {TOKEN}")
        await log.aclose()
    assert seen == ["first", "then …"]


async def test_a_log_that_is_not_there_is_an_error(engine: K3sEngine) -> None:
    with pytest.raises(EngineError, match=r"the log cannot be read: .*No such file"):
        await _log(engine, 3)


@pytest.mark.parametrize(
    ("supervisor", "command"),
    [
        (Systemd(), "journalctl -u k3s.service -o cat -n 5 --no-pager"),
        (OpenRc(HOME), "tail -n 5 /var/log/k3s.log"),
        (Child(HOME), "tail -n 5 /var/log/k3s.log"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_supervisor_names_the_command_that_prints_the_log(supervisor: Supervisor, command: str) -> None:
    assert " ".join(supervisor.log_command("k3s", 5, follow=False)) == command
    followed = supervisor.log_command("k3s", 5, follow=True)
    assert "--follow" in followed or "-F" in followed
