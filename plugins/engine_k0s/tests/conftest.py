"""Tokens as k0s makes them, and machines of a test: a directory each, with the stand-in k0s in it."""

from __future__ import annotations

import base64
import gzip
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import yaml
from kairos_engine_k0s import ControllerSettings, K0sEngine, WorkerSettings
from kairos_engine_k0s.launch import HOME

from kairos_core import Attachment, Join, NodePlan, Role
from kairos_core.service.child import Child
from kairos_core.testing.k0s import install_stand_in
from kairos_core.testing.machines import EngineMachine, in_directories, machines


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


class Machine(EngineMachine):
    """A machine with a k0s, which is started again soon when it dies."""

    SERVICE = "k0scontroller"

    def engine(self, *arguments: str) -> K0sEngine:
        own = (f"'--kubelet-extra-args=--healthz-port={self.health}'", *arguments)
        return K0sEngine(
            ControllerSettings(args=own, config={"spec": {"api": {"port": self.port}}}),
            WorkerSettings(args=own),
            root=self.root,
            supervisor=Child(HOME, self.root, back_off=(0.2,)),
        )

    def plan(self, role: Role, join: Join | None = None) -> NodePlan:
        return NodePlan(role, self.name, Attachment(node_ip=self.address), join=join)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Callable[[str], Machine]]:
    """Make machines; whatever k0s they run is ended with the test."""
    async with machines(in_directories(tmp_path, Machine, install_stand_in)) as make:
        yield make
