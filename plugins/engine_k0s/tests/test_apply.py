"""What `apply` changes and what it leaves alone, on a machine whose supervisor only notes what it is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kairos_engine_k0s import ControllerSettings, K0sEngine, WorkerSettings

from kairos_core import (
    Attachment,
    EngineError,
    EngineState,
    Join,
    Manifest,
    NodePlan,
    Role,
    SecretStr,
)
from kairos_core.testing.supervisors import FakeSupervisor

Make = Callable[..., str]
MASTER = NodePlan(Role.MASTER, "a", Attachment(node_ip="10.1.0.7"))


class Machine:
    """A machine with a program called k0s, which nothing here runs."""

    def __init__(self, root: Path) -> None:
        self.root, self.supervisor = root, FakeSupervisor()
        self.write("usr/local/bin/k0s", "")
        os.chmod(root / "usr/local/bin/k0s", 0o755)

    def engine(self, *args: str) -> K0sEngine:
        """Return a new engine, as a restarted agent has."""
        settings = ControllerSettings(args=args), WorkerSettings(args=args)
        return K0sEngine(*settings, root=self.root, supervisor=self.supervisor)

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def _worker(token: str) -> NodePlan:
    return NodePlan(Role.WORKER, "a", Attachment(), join=Join("https://10.1.0.2:6443", SecretStr(token)))


async def test_an_equal_plan_starts_what_may_have_stopped_and_restarts_nothing(machine: Machine) -> None:
    await machine.engine().apply(MASTER)
    assert machine.supervisor.orders() == ["restart k0scontroller"]
    await machine.engine().apply(MASTER)
    assert machine.supervisor.orders() == ["start k0scontroller"]


async def test_other_arguments_and_another_k0s_yaml_restart(machine: Machine) -> None:
    await machine.engine().apply(MASTER)
    await machine.engine("--debug").apply(MASTER)
    await machine.engine("--debug").apply(replace(MASTER, tls_names=("extra.example",)))
    assert machine.supervisor.orders() == ["restart k0scontroller"] * 3
    assert "extra.example" in (machine.root / "etc/k0s/k0s.yaml").read_text()


async def test_manifests_come_and_go_without_a_restart(machine: Machine) -> None:
    await machine.engine().apply(MASTER)
    place = replace(MASTER.attachment, manifests=(Manifest("vip.yaml", "kind: DaemonSet\n"),))
    await machine.engine().apply(replace(MASTER, attachment=place))
    deployed = machine.root / "var/lib/k0s/manifests/kairos/vip.yaml"
    assert deployed.read_text() == "kind: DaemonSet\n"
    await machine.engine().apply(MASTER)
    assert not deployed.exists()
    assert machine.supervisor.orders() == ["restart k0scontroller", "start k0scontroller", "start k0scontroller"]


async def test_another_token_restarts_until_the_node_has_joined(machine: Machine, make_token: Make) -> None:
    tokens = [make_token("kubelet-bootstrap", "https://10.1.0.1:6443", secret) for secret in ("one", "two", "three")]
    await machine.engine().apply(_worker(tokens[0]))
    await machine.engine().apply(_worker(tokens[1]))
    assert machine.supervisor.orders() == ["restart k0sworker", "restart k0sworker"]
    machine.write("var/lib/k0s/kubelet.conf", "")
    await machine.engine().apply(_worker(tokens[2]))
    assert machine.supervisor.orders() == ["start k0sworker"]
    assert (machine.root / "etc/k0s/token").stat().st_mode & 0o777 == 0o600


async def test_a_machine_of_another_cluster_is_refused_and_nothing_is_touched(
    machine: Machine, make_token: Make
) -> None:
    await machine.engine().apply(_worker(make_token("kubelet-bootstrap", "https://10.1.0.1:6443", authority="ONE\n")))
    machine.write("var/lib/k0s/pki/ca.crt", "ONE\n")
    machine.write("var/lib/k0s/kubelet.conf", "")
    before = (machine.root / "etc/k0s/token").read_text()
    machine.supervisor.orders()
    other = make_token("kubelet-bootstrap", "https://10.1.0.1:6443", authority="TWO\n")
    with pytest.raises(EngineError, match="another k0s cluster"):
        await machine.engine().apply(_worker(other))
    assert machine.supervisor.orders() == []
    assert (machine.root / "etc/k0s/token").read_text() == before


async def test_what_a_failed_attempt_to_join_left_is_no_other_cluster(machine: Machine, make_token: Make) -> None:
    machine.write("var/lib/k0s/pki/ca.crt", "ONE\n")
    await machine.engine().apply(_worker(make_token("kubelet-bootstrap", "https://10.1.0.1:6443", authority="TWO\n")))
    assert machine.supervisor.orders() == ["restart k0sworker"]
    assert not (machine.root / "var/lib/k0s/pki/ca.crt").exists()


async def test_a_node_that_changes_its_role_runs_one_service_only(machine: Machine, make_token: Make) -> None:
    await machine.engine().apply(_worker(make_token("kubelet-bootstrap", "https://10.1.0.1:6443")))
    await machine.engine().apply(MASTER)
    assert machine.supervisor.orders() == ["restart k0sworker", "stop k0sworker", "restart k0scontroller"]
    assert not (machine.root / "etc/units/k0sworker").exists()
    assert not (machine.root / "etc/k0s/token").exists()


async def test_a_k0s_that_has_ended_is_a_failure_in_its_own_words(machine: Machine, make_token: Make) -> None:
    token = make_token("kubelet-bootstrap", "https://10.1.0.1:6443")
    engine = machine.engine()
    assert (await engine.status()).state is EngineState.ABSENT
    await engine.apply(_worker(token))
    machine.supervisor.runs, machine.supervisor.words = False, f"Error: cannot use {token}"
    status = await engine.status()
    assert status.state is EngineState.FAILED
    assert status.message == "k0s has ended; k0s says: cannot use …"


async def test_a_controller_that_has_written_nothing_yet_is_starting(machine: Machine) -> None:
    engine = machine.engine()
    await engine.apply(MASTER)
    assert (await engine.status()).state is EngineState.STARTING
    machine.supervisor.words = "Error: wrong token type kubelet-bootstrap, expected type: controller-bootstrap"
    status = await engine.status()
    assert status.state is EngineState.FAILED
    assert "one for the other role" in status.message


async def test_what_was_there_before_comes_back(machine: Machine) -> None:
    machine.write("etc/k0s/k0s.yaml", "kind: ClusterConfig\n")
    engine = machine.engine()
    await engine.apply(MASTER)
    await engine.remove()
    assert machine.supervisor.orders() == ["restart k0scontroller", "stop k0scontroller"]
    left = {str(file.relative_to(machine.root)) for file in machine.root.rglob("*") if file.is_file()}
    assert left == {"usr/local/bin/k0s", "etc/k0s/k0s.yaml"}
    assert (machine.root / "etc/k0s/k0s.yaml").read_text() == "kind: ClusterConfig\n"
