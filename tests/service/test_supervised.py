"""A service in an operator's hands: whether there is one, and its log without secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from kairos_core import Disk, EngineError, Home, SecretStr, Service, SupervisedService, Supervisor
from kairos_core.service.child import Child
from kairos_core.service.openrc import OpenRc
from kairos_core.service.systemd import Systemd
from kairos_core.testing.supervisors import FakeSupervisor

HOME = Home("/var/lib/kairos/engine_example", "/etc/example")
SERVICE = Service(
    "example",
    (),
    {
        "TOKEN": SecretStr("my-own-secret"),
        "PLACE": SecretStr("https://10.1.0.2:6443"),
        "NO_PROXY": SecretStr("10.0.0.0/8"),
    },
)


def blot(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """A machine on which the service was started before, by another process."""
    disk = Disk(HOME, tmp_path)
    disk.converge(Child(HOME, tmp_path).files(SERVICE, "/usr/local/bin/example"))
    disk.remember(service="example")
    return disk


@pytest.fixture
def service(disk: Disk) -> SupervisedService:
    return SupervisedService(Child(HOME, disk.root), disk, blot, ("PLACE",))


def _write(disk: Disk, *lines: str) -> None:
    log = disk.path("/var/log/example.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


async def test_it_is_known_by_the_record_and_handed_to_the_supervisor(disk: Disk) -> None:
    supervisor = FakeSupervisor()
    service = SupervisedService(supervisor, disk, blot)
    assert service.name == "example"
    await service.stop()
    await service.start()
    assert supervisor.orders() == ["stop example", "start example"]
    for runs in (True, False):
        supervisor.runs = runs
        assert await service.is_running() is runs


def test_where_nothing_was_started_it_has_no_name(tmp_path: Path) -> None:
    assert SupervisedService(FakeSupervisor(), Disk(HOME, tmp_path), blot).name == ""


async def test_the_last_lines_of_the_log_are_printed(disk: Disk, service: SupervisedService) -> None:
    _write(disk, *(f"line {number}" for number in range(10)))
    assert [line async for line in service.log(3)] == ["line 7", "line 8", "line 9"]


async def test_what_it_was_given_is_blotted_out_but_for_what_may_be_seen(
    disk: Disk, service: SupervisedService
) -> None:
    _write(disk, "joining https://10.1.0.2:6443 with my-own-secret, directly to 10.0.0.0/8")
    assert [line async for line in service.log(10)] == ["joining https://10.1.0.2:6443 with …, directly to 10.0.0.0/8"]


async def test_a_log_that_is_followed_goes_on_and_ends_with_who_reads_it(
    disk: Disk, service: SupervisedService
) -> None:
    _write(disk, "first")
    seen = []
    async with asyncio.timeout(30), aclosing(service.log(1, follow=True)) as log:
        async for line in log:
            seen.append(line)
            if len(seen) == 2:
                break
            _write(disk, "then my-own-secret")
    assert seen == ["first", "then …"]


async def test_a_log_that_is_not_there_is_an_error(service: SupervisedService) -> None:
    with pytest.raises(EngineError, match=r"the log cannot be read: .*No such file"):
        [line async for line in service.log(3)]


@pytest.mark.parametrize(
    ("supervisor", "command", "follows"),
    [
        (Systemd(), "journalctl -u example.service -o cat -n 5 --no-pager", "--follow"),
        (OpenRc(HOME), "tail -n 5 /var/log/example.log", "-F"),
        (Child(HOME), "tail -n 5 /var/log/example.log", "-F"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Supervisor) else "",
)
def test_each_supervisor_names_the_command_that_prints_the_log(
    supervisor: Supervisor, command: str, follows: str
) -> None:
    assert " ".join(supervisor.log_command("example", 5, follow=False)) == command
    assert follows in supervisor.log_command("example", 5, follow=True)
