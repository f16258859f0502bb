"""Which ports k0s needs, and who may hold them."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from kairos_engine_k0s import ControllerSettings, K0sEngine, WorkerSettings
from kairos_engine_k0s.examination import ports_of
from kairos_engine_k0s.launch import HOME, block_of

from kairos_core import Attachment, Disk, Join, NodePlan, Role, SecretStr, Verdict

JOIN = Join("https://<the address of a master>:6443", SecretStr("(not known yet)"))
MASTER = NodePlan(Role.MASTER, "a", Attachment(), cluster_token=SecretStr("x"))
WORKER = NodePlan(Role.WORKER, "a", Attachment(), join=JOIN)
EVERYTHING = [2379, 2380, 6443, 8132, 9443, 10250]


def numbers(plan: NodePlan, **settings: object) -> list[int]:
    controller = ControllerSettings.checked(settings)
    worker = WorkerSettings.checked({name: value for name, value in settings.items() if name == "args"})
    return sorted(port.number for port in ports_of(plan, block_of(plan, controller, worker)))


@pytest.mark.parametrize("role", [Role.MASTER, Role.CLUSTER_INIT, Role.HA])
def test_a_master_needs_those_of_a_controller_and_of_a_node(role: Role) -> None:
    plan = replace(MASTER, role=role, join=JOIN if role is Role.HA else None)
    assert numbers(plan) == EVERYTHING


def test_a_worker_needs_that_of_the_kubelet() -> None:
    assert numbers(WORKER) == [10250]
    assert numbers(WORKER, args=("--kubelet-extra-args=--port=11250",)) == [11250]


def test_without_etcd_its_ports_are_not_needed_and_the_configuration_moves_others() -> None:
    without = [6443, 8132, 9443, 10250]
    assert numbers(replace(MASTER, datastore=SecretStr("mysql://db/k0s"))) == without
    assert numbers(MASTER, args=("--single",)) == without
    moved = {"spec": {"api": {"port": 7443, "k0sApiPort": 7944}, "konnectivity": {"agentPort": 7132}}}
    assert numbers(MASTER, config=moved) == [2379, 2380, 7132, 7443, 7944, 10250]


def test_a_port_that_another_process_holds_is_wrong_until_the_role_needs_it_no_more(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        (tmp_path / "proc").symlink_to("/proc")
        config = {"spec": {"api": {"port": held.getsockname()[1]}}}
        engine = K0sEngine(ControllerSettings(config=config), root=tmp_path)
        found = engine.examine([MASTER, WORKER])[-1]
        assert (found.check, found.verdict) == ("Kubernetes ports", Verdict.WRONG)
        assert f"(process {os.getpid()})" in found.message
        Disk(HOME, tmp_path).remember(service="k0sworker")
        assert f"(process {os.getpid()})" not in engine.examine([MASTER, WORKER])[-1].message
