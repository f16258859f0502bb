"""For authors of engines: checks of what an engine knows that has applied nothing, as in a command beside the agent.

All that there is of its service is what another process has left on the disk.

    @pytest.fixture
    def left(tmp_path):
        return Left(MyEngine, HOME, tmp_path)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kairos_core.interfaces import Engine
from kairos_core.model import EngineState
from kairos_core.service.child import Child
from kairos_core.service.definition import Home, Service
from kairos_core.service.disk import Disk


@dataclass(frozen=True, slots=True)
class Left:
    """A machine on which nothing runs; `make` is called with its root and its supervisor, and returns an engine."""

    make: Callable[..., Engine]
    home: Home
    root: Path

    def engine(self) -> Engine:
        """Return an engine that has applied nothing."""
        return self.make(root=self.root, supervisor=Child(self.home, self.root))

    def leave(self, service: Service, log: str, **record: Any) -> None:
        """Leave a service there: its files, its log, and a record with these fields."""
        disk = Disk(self.home, self.root)
        disk.converge(Child(self.home, self.root).files(service, "/usr/local/bin/program"))
        disk.remember(service=service.name, **record)
        file = self.root / f"var/log/{service.name}.log"
        file.parent.mkdir(parents=True)
        file.write_text(log)


async def check_no_service(left: Left) -> None:
    """Hold an engine to it that where nothing was applied there is no service."""
    assert await left.engine().service() is None, "where nothing was applied there must be no service"


async def check_log(left: Left, service: Service, lines: Mapping[str, str]) -> None:
    """Hold an engine to it that the log of a service is shown without secrets: each line as the one that follows it."""
    left.leave(service, "".join(f"{line}\n" for line in lines))
    found = await left.engine().service()
    assert found is not None, "what the record names must be a service"
    assert found.name == service.name, f"the service is {service.name}, not {found.name}"
    shown = [line async for line in found.log(len(lines))]
    assert shown == list(lines.values()), "a log must be shown without secrets, and whole but for them"


async def check_end_is_told(left: Left, service: Service, log: str, message: str, **record: Any) -> None:
    """Hold an engine to it that a service which has ended is a failure, with its last words, and without secrets."""
    engine = left.engine()
    state = (await engine.status()).state
    assert state is EngineState.ABSENT, f"where nothing was applied the state must be absent, not {state}"
    left.leave(service, log, **record)
    status = await engine.status()
    assert status.state is EngineState.FAILED, f"what has ended is no more {status.state}: {status.message}"
    assert status.message == message, "its end must be told in its last words, without secrets"


async def check_damaged_record(left: Left) -> None:
    """Hold an engine to it that a record which nobody can read is a failure."""
    record = Disk(left.home, left.root).path(f"{left.home.state}/state.json")
    record.parent.mkdir(parents=True)
    record.write_text("{")
    status = await left.engine().status()
    assert status.state is EngineState.FAILED, f"a damaged record must be a failure, not {status.state}"
    assert "cannot be read" in status.message, f"a damaged record must be told: {status.message}"
