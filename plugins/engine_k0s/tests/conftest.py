"""Tokens as k0s makes them, and machines of a test: a directory each, with the stand-in k0s in it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from kairos_engine_k0s import ControllerSettings, K0sEngine, WorkerSettings
from kairos_engine_k0s.launch import HOME

from kairos_core import Attachment, EngineState, EngineStatus, Join, NodePlan, Role
from kairos_core.service.child import Child
from kairos_core.testing.k0s import install_stand_in


def make_token(user: str, server: str, secret: str = "abcdef.0123456789abcdef", authority: str = "PEM\n") -> str:
    """Return a join token as k0s makes them."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "k0s",
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(authority.encode()).decode(),
                },
            }
        ],
        "users": [{"name": user, "user": {"token": secret}}],
    }
    return base64.b64encode(gzip.compress(yaml.safe_dump(document).encode(), mtime=0)).decode()


@pytest.fixture(name="make_token")
def _make_token() -> Callable[..., str]:
    return make_token


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Machine:
    """A machine of the test: its root directory and ports."""

    name: str
    root: Path
    port: int
    health: int

    def engine(self, *more: str) -> K0sEngine:
        """Return a new engine on this machine, as a restarted agent has."""
        own = (f"'--kubelet-extra-args=--healthz-port={self.health}'", *more)
        config = {"spec": {"api": {"port": self.port}}}
        return K0sEngine(
            ControllerSettings(args=own, config=config),
            WorkerSettings(args=own),
            root=self.root,
            supervisor=Child(HOME, self.root, back_off=(0.2,)),
        )

    def plan(self, role: Role, join: Join | None = None) -> NodePlan:
        return NodePlan(role, self.name, Attachment(node_ip="127.0.0.1"), join=join)

    def join(self, status: EngineStatus) -> Join:
        """Return how others join this master."""
        assert status.join_token
        return Join(f"https://127.0.0.1:{self.port}", status.join_token)

    def pid(self, service: str = "k0scontroller") -> int:
        return int((self.root / f"run/kairos/{service}.pid").read_text().split()[0])

    def argv(self, service: str = "k0scontroller") -> str:
        return Path(f"/proc/{self.pid(service)}/cmdline").read_text()

    @staticmethod
    async def reaches(engine: K0sEngine, state: EngineState, patience: float = 30.0) -> EngineStatus:
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
    """Make machines; whatever k0s they run is ended with the test."""
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
