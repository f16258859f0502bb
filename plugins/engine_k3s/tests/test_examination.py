"""What the engine finds missing on a machine: the program, unless it will be installed."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from kairos_engine_k3s import AgentSettings, K3sEngine, ServerSettings
from kairos_engine_k3s.examination import examine, ports_of
from kairos_engine_k3s.launch import HOME, launch_of

from kairos_core import Attachment, Disk, Join, NodePlan, Role, SecretStr, Verdict
from kairos_core.testing.machines import free_port

JOIN = Join("https://<the address of a master>:6443", SecretStr("(not known yet)"))
PLANS = {
    Role.MASTER: NodePlan(Role.MASTER, "a", Attachment(), cluster_token=SecretStr("x")),
    Role.CLUSTER_INIT: NodePlan(Role.CLUSTER_INIT, "a", Attachment(), cluster_token=SecretStr("x")),
    Role.HA: NodePlan(Role.HA, "a", Attachment(), join=JOIN),
    Role.WORKER: NodePlan(Role.WORKER, "a", Attachment(), join=JOIN),
}


def numbers(role: Role, *arguments: str, datastore: str = "") -> list[int]:
    plan = replace(PLANS[role], datastore=SecretStr(datastore) if datastore else None)
    launch = launch_of(plan, ServerSettings(args=arguments), AgentSettings(args=arguments))
    return sorted(port.number for port in ports_of(launch))


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (Role.MASTER, [6443, 6444, 10250]),
        (Role.CLUSTER_INIT, [2379, 2380, 6443, 6444, 10250]),
        (Role.HA, [2379, 2380, 6443, 6444, 10250]),
        (Role.WORKER, [6444, 10250]),
    ],
)
def test_each_role_needs_its_ports(role: Role, expected: list[int]) -> None:
    assert numbers(role) == expected


def test_a_shared_database_needs_no_etcd_and_arguments_move_ports() -> None:
    assert numbers(Role.CLUSTER_INIT, datastore="postgres://db/k3s") == [6443, 6444, 10250]
    assert numbers(Role.MASTER, "--https-listen-port=7443", "--kubelet-arg=port=11250") == [7443, 7444, 11250]
    assert numbers(Role.WORKER, "--lb-server-port", "7444") == [7444, 10250]


def test_a_port_of_a_possible_role_that_another_process_holds_is_wrong_until_the_role_is_another(
    tmp_path: Path,
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        (tmp_path / "proc").symlink_to("/proc")
        server = ServerSettings(args=(f"--https-listen-port={held.getsockname()[1]}",))
        agent = AgentSettings(args=(f"--kubelet-arg=port={free_port()}", f"--lb-server-port={free_port()}"))
        engine = K3sEngine(server, agent, root=tmp_path)
        plans = [PLANS[Role.MASTER], PLANS[Role.WORKER], NodePlan(Role.WORKER, "no token", Attachment())]
        found = engine.examine(plans)[-1]
        assert (found.check, found.verdict) == ("Kubernetes ports", Verdict.WRONG)
        assert f"(process {os.getpid()})" in found.message
        assert "https-listen-port" in found.remedy
        Disk(HOME, tmp_path).remember(service="k3s-agent")
        assert engine.examine(plans)[-1].verdict is Verdict.OK
        assert engine.examine()[-1].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("program", "installs", "verdict"),
    [("/usr/bin/k3s", False, Verdict.OK), (None, True, Verdict.OK), (None, False, Verdict.WRONG)],
)
def test_a_missing_k3s_is_wrong_unless_it_will_be_installed(
    program: str | None, installs: bool, verdict: Verdict
) -> None:
    [found, *others] = examine(Path("/"), program, installs=installs)
    assert (found.check, found.verdict) == ("k3s", verdict)
    assert {each.check for each in others} == {"cgroups", "kernel modules"}
