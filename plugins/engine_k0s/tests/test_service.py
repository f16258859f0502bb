"""k0s' service as an operator handles it, in a process that has applied nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from kairos_engine_k0s import K0sEngine
from kairos_engine_k0s.launch import HOME, Launch

from kairos_core import SecretStr
from kairos_core.testing.records import Left, check_damaged_record, check_end_is_told, check_log, check_no_service


@pytest.fixture
def left(tmp_path: Path) -> Left:
    return Left(K0sEngine, HOME, tmp_path)


async def test_where_nothing_was_applied_there_is_no_service(left: Left) -> None:
    await check_no_service(left)


async def test_its_log_shows_neither_tokens_nor_logins(left: Left) -> None:
    launch = Launch("k0sworker", ("worker",), {"K0S_TOKEN": SecretStr("my-own-secret")})
    lines = {
        "joining with my-own-secret": "joining with …",
        "token abcdef.0123456789abcdef": "token …",
        "datastore postgres://joe:secret@db/k0s": "datastore postgres://…@db/k0s",
    }
    await check_log(left, launch.definition, lines)


async def test_how_it_does_is_told_from_the_disk_by_who_has_applied_nothing(left: Left) -> None:
    launch = Launch("k0scontroller", ("controller",), {"K0S_TOKEN": SecretStr("hush-hush")})
    record = {"data_directory": launch.data_directory, "health_port": 10248}
    log = "Error: cannot start with hush-hush\n"
    await check_end_is_told(left, launch.definition, log, "k0s has ended; k0s says: cannot start with …", **record)


async def test_a_record_that_is_damaged_is_a_failure(left: Left) -> None:
    await check_damaged_record(left)
