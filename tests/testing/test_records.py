"""The checks of what an engine knows from the disk, held to one that does: it passes, and each fault is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from kairos_core.errors import EngineError
from kairos_core.interfaces import EngineService
from kairos_core.model import EngineState, EngineStatus
from kairos_core.service.definition import Home, Service
from kairos_core.service.disk import Disk
from kairos_core.service.supervised import SupervisedService
from kairos_core.service.supervisor import Supervisor
from kairos_core.settings import SecretStr
from kairos_core.testing.engines import FakeEngine, FakeService
from kairos_core.testing.records import Left, check_damaged_record, check_end_is_told, check_log, check_no_service

HOME = Home("/var/lib/kairos/engine_fake", "/etc/fake")
SERVICE = Service("fake", ("run",), {"TOKEN": SecretStr("hush-hush")})
LINES = {"joining": "joining", "with hush-hush": "with …"}

Make = Callable[..., Left]


def _blot(line: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        line = line.replace(secret, "…")
    return line


class Reader(FakeEngine):
    """An engine that reads what is on the disk; `fault` is what it does wrong."""

    def __init__(self, root: Path, supervisor: Supervisor, fault: str) -> None:
        super().__init__()
        self.disk, self.supervisor, self.fault = Disk(HOME, root), supervisor, fault

    async def service(self) -> EngineService | None:
        if self.fault == "makes a service up":
            return FakeService()
        blot = (lambda line, _: line) if self.fault == "shows secrets" else _blot
        service = SupervisedService(self.supervisor, self.disk, blot)
        return service if service.name and self.fault != "forgets" else None

    async def status(self) -> EngineStatus:
        try:
            state = self.disk.state()
        except EngineError as error:
            message = "oh" if self.fault == "is terse" else str(error)
            return EngineStatus(EngineState.STARTING if self.fault == "hopes" else EngineState.FAILED, message)
        if not state.service:
            return EngineStatus(EngineState.STARTING if self.fault == "hopes early" else EngineState.ABSENT)
        secrets = [] if self.fault == "shows secrets" else list(self.disk.environment().values())
        said = _blot((await self.supervisor.log(state.service)).strip(), secrets)
        return EngineStatus(EngineState.STARTING if self.fault == "hopes" else EngineState.FAILED, said)


@pytest.fixture
def left(tmp_path: Path) -> Make:
    def make(fault: str = "", name: str = "a") -> Left:
        return Left(partial(Reader, fault=fault), HOME, tmp_path / name)

    return make


async def test_who_reads_the_disk_passes(left: Make) -> None:
    await check_no_service(left())
    await check_log(left(), SERVICE, LINES)
    await check_end_is_told(left(name="b"), SERVICE, "no hush-hush", "no …", health_port=10248)
    await check_damaged_record(left(name="c"))


async def test_a_service_that_is_made_up_is_found(left: Make) -> None:
    made_up = left("makes a service up")
    with pytest.raises(AssertionError, match="there must be no service"):
        await check_no_service(made_up)
    with pytest.raises(AssertionError, match="the service is another, not fake"):
        await check_log(made_up, replace(SERVICE, name="another"), LINES)


@pytest.mark.parametrize(
    ("fault", "what"), [("forgets", "must be a service"), ("shows secrets", "without secrets, and whole")]
)
async def test_a_log_that_is_missing_or_shows_secrets_is_found(left: Make, fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        await check_log(left(fault), SERVICE, LINES)


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("hopes early", "must be absent, not starting"),
        ("hopes", "what has ended is no more starting"),
        ("shows secrets", "in its last words, without secrets"),
    ],
)
async def test_an_end_that_is_not_told_or_tells_too_much_is_found(left: Make, fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        await check_end_is_told(left(fault), SERVICE, "no hush-hush", "no …")


@pytest.mark.parametrize(("fault", "what"), [("hopes", "must be a failure, not starting"), ("is terse", "told: oh")])
async def test_a_damaged_record_that_is_not_told_is_found(left: Make, fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        await check_damaged_record(left(fault))
