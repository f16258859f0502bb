"""Machines with a fake engine, which does wrong what a test wants: the checks for engines with processes find it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from kairos_core.errors import EngineError
from kairos_core.model import Attachment, EngineState, EngineStatus, Join, NodePlan, Role
from kairos_core.settings import SecretStr
from kairos_core.testing import machines as kit
from kairos_core.testing.engines import FakeCluster, FakeEngine
from kairos_core.testing.machines import EngineMachine

FIRST_PID = 1 << 23  # no process has it: Linux ends at 2²²
OWN = "etc/fake.conf"


@dataclass
class Process:
    """What runs on a machine: a number, and whether it was killed and not yet started again."""

    pid: int = FIRST_PID
    is_dead: bool = False
    removals: int = 0


@dataclass
class Cluster(FakeCluster):
    """Knows also whose pods a disruption budget holds."""

    held: set[str] = field(default_factory=set)


class Watched(FakeEngine):
    """A fake whose process can be killed, and which writes a file; the machine's `fault` is what it does wrong."""

    def __init__(self, machine: Machine, *arguments: str) -> None:
        super().__init__(machine.cluster)
        self.machine, self.process, self.fault, self.arguments = machine, machine.process, machine.fault, arguments
        self.plan: NodePlan | None = None

    async def apply(self, plan: NodePlan) -> None:
        await super().apply(plan)
        self.plan = plan
        if self.fault == "restarts what runs":
            self.process.pid += 1
        if "--budget" in self.arguments:
            self.machine.cluster.held.add(plan.node_name)
        if not (self.machine.root / OWN).exists():
            self.machine.write({OWN: "ours"})

    async def status(self) -> EngineStatus:
        status = await super().status()
        if any("no-such-flag" in argument for argument in self.arguments):
            said = "it has ended" if self.fault == "says nothing" else "unknown flag: --no-such-flag"
            return EngineStatus(EngineState.FAILED, said)
        if self.process.is_dead and self.fault != "tells no death":
            self.process.is_dead = self.fault == "stays dead"
            self.process.pid += self.fault != "never died"
            return EngineStatus(EngineState.FAILED, "it has ended")
        if status.join_token and self.fault == "another cluster each time":
            return replace(status, join_token=SecretStr(f"{id(self)} {self.process.pid}"))
        if self.fault == "sees itself alone":
            return replace(status, nodes=status.nodes[:1])
        return replace(status, kubeconfig=self._whole(status.kubeconfig)) if status.kubeconfig else status

    def _whole(self, kubeconfig: SecretStr) -> SecretStr:
        text = kubeconfig.get_secret_value()
        if self.fault == "names itself" and self.plan:
            text = text.replace("localhost", str(self.plan.attachment.node_ip))
        key = "client-key: /root/key" if self.fault == "needs a file" else "client-key-data: a2V5"
        return SecretStr(f"{text}users: [{{user: {{{key}}}}}]\n")

    async def remove(self) -> None:
        await super().remove()
        self.process.removals += 1
        own = self.machine.root / OWN
        if self.plan and own.read_text() == "ours" and self.fault != "leaves a file":
            own.unlink()
        if self.fault == "takes what is not its own":
            own.unlink()
        if self.fault == "spoils what is not its own":
            own.write_text("")

    async def expel(self, node_name: str) -> None:
        if node_name in self.machine.cluster.held and self.fault != "heeds no budget":
            if self.fault == "deletes all the same":
                await super().expel(node_name)
            why = "" if self.fault == "says not why" else ': evicting pods/"web": its disruption budget'
            raise EngineError(f"{node_name} cannot be drained{why}. Mend it, or: kairos leave --force")
        if self.fault == "expels anybody" and not node_name:
            self.cluster.nodes.clear()
            self.cluster.expelled.add("a")
        elif self.fault != "expels nobody":
            await super().expel(node_name)


class Machine(EngineMachine):
    """A machine with such a fake."""

    SERVICE = "fake"
    cluster: Cluster
    process: Process
    fault = ""

    def engine(self, *arguments: str) -> Watched:
        return Watched(self, *arguments)

    def plan(self, role: Role, join: Join | None = None) -> NodePlan:
        return NodePlan(role, self.name, Attachment(), cluster_token=None if join else SecretStr("t"), join=join)

    def pid(self, service: str = "") -> int:
        return self.process.pid


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    """Make machines of one cluster; to kill a process of theirs marks it as dead. Nothing is waited for long."""
    cluster, made = Cluster(), []

    def machine(name: str, fault: str = "") -> Machine:
        one = Machine(name, tmp_path / name, port=6443)
        one.cluster, one.process, one.fault = cluster, Process(), fault
        made.append(one)
        return one

    def kill(pid: int, number: int) -> None:
        assert number == signal.SIGKILL
        for each in made:
            each.process.is_dead |= each.process.pid == pid

    monkeypatch.setattr(kit, "PATIENCE", 0.2)
    monkeypatch.setattr(os, "kill", kill)
    return machine
