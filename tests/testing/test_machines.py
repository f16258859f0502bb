"""The checks for engines with processes, held to fake ones: what is right passes, and each fault is found."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kairos_core.model import Attachment, EngineState, EngineStatus, Join, NodePlan, Role
from kairos_core.settings import SecretStr
from kairos_core.testing import machines as kit
from kairos_core.testing.engines import FakeCluster, FakeEngine
from kairos_core.testing.machines import (
    EngineMachine,
    check_adoption,
    check_cluster,
    check_expulsion,
    check_expulsion_of_strangers,
    check_revival,
    check_secrets,
    free_port,
    machines,
    reached,
)

FIRST_PID = 4000
SECRET = "my-own-secret"


class Process:
    """What runs on a machine: a number, and whether it was killed and not yet started again."""

    def __init__(self) -> None:
        self.pid, self.is_dead, self.removals = FIRST_PID, False, 0


class Watched(FakeEngine):
    """A fake whose process can be killed; `fault` is what it does wrong."""

    def __init__(self, cluster: FakeCluster, process: Process, fault: str) -> None:
        super().__init__(cluster)
        self.process, self.fault = process, fault

    async def apply(self, plan: NodePlan) -> None:
        await super().apply(plan)
        if self.fault == "restarts what runs":
            self.process.pid += 1

    async def status(self) -> EngineStatus:
        status = await super().status()
        if self.process.is_dead and self.fault != "tells no death":
            self.process.is_dead = self.fault == "stays dead"
            self.process.pid += self.fault != "never died"
            return EngineStatus(EngineState.FAILED, "it has ended")
        if status.join_token and self.fault == "another cluster each time":
            return replace(status, join_token=SecretStr(f"{id(self)} {self.process.pid}"))
        if self.fault == "sees itself alone":
            return replace(status, nodes=status.nodes[:1])
        return status

    async def remove(self) -> None:
        await super().remove()
        self.process.removals += 1

    async def expel(self, node_name: str) -> None:
        if self.fault == "expels anybody" and not node_name:
            self.cluster.nodes.clear()
            self.cluster.expelled.add("a")
        elif self.fault != "expels nobody":
            await super().expel(node_name)


class Machine(EngineMachine):
    """A machine with such a fake."""

    SERVICE = "fake"
    cluster: FakeCluster
    process: Process
    fault = ""

    def engine(self, *arguments: str) -> Watched:
        return Watched(self.cluster, self.process, self.fault)

    def plan(self, role: Role, join: Join | None = None) -> NodePlan:
        return NodePlan(role, self.name, Attachment(), cluster_token=None if join else SecretStr("t"), join=join)

    def pid(self, service: str = "") -> int:
        return self.process.pid


Make = Callable[..., Machine]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make machines of one cluster; to kill a process of theirs marks it as dead. Nothing is waited for long."""
    cluster, made = FakeCluster(), []

    def machine(name: str, fault: str = "") -> Machine:
        one = Machine(name, tmp_path / name)
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


async def test_what_is_right_passes(make: Make) -> None:
    first, second = await check_cluster(make)
    assert first.join_token == second.join_token
    await check_adoption(make("adopts"))
    await check_revival(make("revives"))


async def test_who_takes_out_the_right_ones_passes(make: Make) -> None:
    await check_expulsion(make)


async def test_an_engine_that_expels_nobody_is_found(make: Make) -> None:
    with pytest.raises(AssertionError, match=r"'third'., not .'first', 'second'"):
        await check_expulsion(lambda name: make(name, "expels nobody"))


async def test_strangers_change_nothing(make: Make) -> None:
    await check_expulsion_of_strangers(make("a"))


@pytest.mark.parametrize(
    ("fault", "what"), [("expels nobody", "must be refused where no master"), ("expels anybody", "knows .., not")]
)
async def test_an_engine_that_expels_without_asking_who_is_found(make: Make, fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        await check_expulsion_of_strangers(make("a", fault))


async def test_a_cluster_that_does_not_see_its_nodes_is_found(make: Make) -> None:
    with pytest.raises(AssertionError, match=r"knows .'first',., not"):
        await check_cluster(lambda name: make(name, "sees itself alone"))


@pytest.mark.parametrize(
    ("fault", "what"),
    [("restarts what runs", "must not restart"), ("another cluster each time", "must not start another cluster")],
)
async def test_an_agent_that_does_not_adopt_what_runs_is_found(make: Make, fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        await check_adoption(make("a", fault))


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("tells no death", "the engine is ready, not failed"),
        ("stays dead", "the engine is failed, not ready: it has ended"),
        ("never died", "must be another process"),
        ("another cluster each time", "as the same cluster"),
    ],
)
async def test_a_death_that_is_not_told_or_not_mended_is_found(make: Make, fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        await check_revival(make("a", fault))


async def test_what_runs_is_removed_from_every_machine_at_the_end(make: Make) -> None:
    async with machines(make) as add:
        made = [add("one"), add("two")]
        await made[0].engine().apply(made[0].plan(Role.MASTER))
        assert [each.process.removals for each in made] == [0, 0]
    assert [each.process.removals for each in made] == [1, 1]


async def test_a_state_that_does_not_come_is_told_with_the_one_that_there_is(make: Make) -> None:
    with pytest.raises(AssertionError, match="the engine is absent, not ready"):
        await reached(make("a").engine(), EngineState.READY)


@pytest.fixture
def with_files(tmp_path: Path) -> Machine:
    """A machine whose service is this process, with a key and a token in files."""
    for name, text in (("run/kairos/fake.pid", f"{os.getpid()} ()"), ("key", "PRIVATE KEY"), ("env", f"a {SECRET} c")):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o600)
    machine = Machine("a", tmp_path)
    machine.process = Process()
    machine.process.pid = os.getpid()
    return machine


def test_files_with_secrets_are_found_and_must_be_for_their_owner_alone(with_files: Machine) -> None:
    assert check_secrets(with_files, SECRET) == {"key", "env"}
    (with_files.root / "env").chmod(0o640)
    with pytest.raises(AssertionError, match=r"env holds a secret, and has the mode 0640"):
        check_secrets(with_files, SECRET)


def test_a_secret_among_the_arguments_is_found(with_files: Machine) -> None:
    with pytest.raises(AssertionError, match="arguments must hold no secret"):
        check_secrets(with_files, Path("/proc/self/cmdline").read_text().partition("\0")[0])


def test_a_service_is_known_by_its_pid_file_and_how_others_join_by_its_status(tmp_path: Path) -> None:
    machine = Machine("a", tmp_path)
    for service, text in (("fake", f"{os.getpid()} (python) S"), ("other", "1 (init) S")):
        (tmp_path / "run/kairos").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"run/kairos/{service}.pid").write_text(text)
    assert EngineMachine.pid(machine) == os.getpid()
    assert EngineMachine.pid(machine, "other") == 1
    token = SecretStr("t")
    assert machine.join(EngineStatus(EngineState.READY, join_token=token)).token is token
    assert machine.join(EngineStatus(EngineState.READY, join_token=token)).server.endswith(f":{machine.port}")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_free_port_can_be_taken(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", free_port(kind)))
