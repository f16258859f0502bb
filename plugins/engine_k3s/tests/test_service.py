"""k3s' service as an operator handles it, in a process that has applied nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from kairos_engine_k3s import K3sEngine
from kairos_engine_k3s.launch import HOME, Launch

from kairos_core import SecretStr
from kairos_core.testing.records import Left, check_damaged_record, check_end_is_told, check_log, check_no_service

TOKEN = "the secret of the cluster"


@pytest.fixture
def left(tmp_path: Path) -> Left:
    return Left(K3sEngine, HOME, tmp_path)


async def test_where_nothing_was_applied_there_is_no_service(left: Left) -> None:
    await check_no_service(left)


async def test_its_log_shows_neither_tokens_nor_logins_but_the_servers_address(left: Left) -> None:
    environment = {"K3S_TOKEN": SecretStr(TOKEN), "K3S_URL": SecretStr("https://10.1.0.2:6443")}
    lines = {
        f"joining https://10.1.0.2:6443 with {TOKEN}": "joining https://10.1.0.2:6443 with …",
        "token K10deadbeef0123::server:abcdef": "token K10…",
        "datastore postgres://joe:secret@db/k3s": "datastore postgres://…@db/k3s",
    }
    await check_log(left, Launch("k3s", ("server",), environment).definition, lines)


async def test_how_it_does_is_told_from_the_disk_by_who_has_applied_nothing(left: Left) -> None:
    launch = Launch("k3s", ("server", "--data-dir=/var/lib/rancher/k3s"), {"K3S_TOKEN": SecretStr("hush-hush")})
    record = {"data_directory": launch.data_directory, "health_port": 10248}
    log = 'level=fatal msg="starting kubernetes: failed with hush-hush"\n'
    message = "k3s has ended; k3s says: starting kubernetes: failed with …"
    await check_end_is_told(left, launch.definition, log, message, **record)


async def test_a_record_that_is_damaged_is_a_failure(left: Left) -> None:
    await check_damaged_record(left)
