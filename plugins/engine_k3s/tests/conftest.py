"""Machines of a test: a directory each, with the stand-in k3s in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ClassVar

import pytest
from kairos_engine_k3s import AgentSettings, K3sEngine, ServerSettings
from kairos_engine_k3s.launch import HOME

from kairos_core import Attachment, Join, NodePlan, Role, SecretStr
from kairos_core.service.child import Child
from kairos_core.testing.k3s import install_stand_in
from kairos_core.testing.machines import EngineMachine, in_directories, machines


class Machine(EngineMachine):
    """A machine with a k3s, which is started again soon when it dies."""

    SERVICE = "k3s"
    TOKEN: ClassVar[str] = "the-cluster-token"

    def engine(self, *arguments: str) -> K3sEngine:
        own = (f"--kubelet-arg=healthz-port={self.health}", *arguments)
        return K3sEngine(
            ServerSettings(args=(f"--https-listen-port={self.port}", *own)),
            AgentSettings(args=own),
            root=self.root,
            supervisor=Child(HOME, self.root, back_off=(0.2,)),
        )

    def plan(self, role: Role, join: Join | None = None) -> NodePlan:
        token = None if join else SecretStr(self.TOKEN)
        return NodePlan(role, self.name, Attachment(node_ip=self.address), cluster_token=token, join=join)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Callable[[str], Machine]]:
    """Make machines; whatever k3s they run is ended with the test."""
    async with machines(in_directories(tmp_path, Machine, install_stand_in)) as make:
        yield make
