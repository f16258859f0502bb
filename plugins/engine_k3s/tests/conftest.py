"""Machines of a test: a directory each, with the stand-in k3s in it, and ports of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from kairos_engine_k3s import AgentSettings, K3sEngine, ServerSettings
from kairos_engine_k3s.launch import HOME

from kairos_core import Attachment, EngineState, EngineStatus, Join, NodePlan, Role, SecretStr
from kairos_core.service.child import Child
from kairos_core.testing.k3s import install_stand_in


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Machine:
    """A machine of the test: its root directory and ports."""

    TOKEN: ClassVar[str] = "the-cluster-token"

    name: str
    root: Path
    port: int
    health: int

    def engine(self, *more: str) -> K3sEngine:
        """Return a new engine on this machine, as a restarted agent has."""
        own = (f"--kubelet-arg=healthz-port={self.health}", *more)
        return K3sEngine(
            ServerSettings(args=(f"--https-listen-port={self.port}", *own)),
            AgentSettings(args=own),
            root=self.root,
            supervisor=Child(HOME, self.root, back_off=(0.2,)),
        )

    def plan(self, role: Role, join: Join | None = None) -> NodePlan:
        token = None if join else SecretStr(self.TOKEN)
        return NodePlan(role, self.name, Attachment(node_ip="127.0.0.1"), cluster_token=token, join=join)

    def join(self, status: EngineStatus) -> Join:
        """Return how others join this master."""
        assert status.join_token
        return Join(f"https://127.0.0.1:{self.port}", status.join_token)

    def pid(self, service: str = "k3s") -> int:
        return int((self.root / f"run/kairos/{service}.pid").read_text().split()[0])

    def argv(self, service: str = "k3s") -> str:
        return Path(f"/proc/{self.pid(service)}/cmdline").read_text()

    @staticmethod
    async def reaches(engine: K3sEngine, state: EngineState, patience: float = 20.0) -> EngineStatus:
        """Wait until the engine's state is this one."""
        status = await engine.status()
        try:
            async with asyncio.timeout(patience):
                while status.state is not state:
                    await asyncio.sleep(0.05)
                    status = await engine.status()
        except TimeoutError:
            raise AssertionError(f"the engine is {status.state}, not {state}: {status.message}") from None
        return status


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Callable[[str], Machine]]:
    """Make machines; whatever k3s they run is ended with the test."""
    made: list[Machine] = []

    def make(name: str) -> Machine:
        root = tmp_path / name
        install_stand_in(root / "usr/local/bin", root)
        made.append(Machine(name, root, free_port(), free_port()))
        return made[-1]

    yield make
    for each in made:
        with contextlib.suppress(FileNotFoundError):
            await each.engine().remove()
