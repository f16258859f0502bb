from __future__ import annotations

from dataclasses import replace

import pytest
from kairos_engine_k3s.launch import HOME, launch_of
from kairos_engine_k3s.settings import AgentSettings, ServerSettings

from kairos_core import Attachment, EngineError, Home, Join, Manifest, NodePlan, Role, SecretStr, Service


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        (Role.NONE, "nothing to apply"),
        (Role.WORKER, "Wait for a master"),
        (Role.HA, "Wait for a master"),
    ],
)
def test_a_plan_that_cannot_run_is_refused_with_the_reason(role: Role, reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        launch_of(NodePlan(role, "a", Attachment()), ServerSettings(), AgentSettings())


def test_without_automatic_roles_the_operator_says_what_a_worker_joins() -> None:
    agent = AgentSettings.checked({"env": {"K3S_URL": "https://10.0.0.1:6443", "K3S_TOKEN": "t"}})
    launch = launch_of(NodePlan(Role.WORKER, "a", Attachment()), ServerSettings(), agent)
    assert launch.environment["K3S_URL"].get_secret_value() == "https://10.0.0.1:6443"
    with pytest.raises(EngineError, match="set K3S_TOKEN"):
        launch_of(
            NodePlan(Role.WORKER, "a", Attachment()),
            ServerSettings(),
            AgentSettings.checked({"env": {"K3S_URL": "https://10.0.0.1:6443"}}),
        )


def test_a_further_master_of_an_external_database_needs_the_token() -> None:
    plan = NodePlan(Role.HA, "a", Attachment(), datastore=SecretStr("etcd"))
    with pytest.raises(EngineError, match="needs the cluster's token"):
        launch_of(plan, ServerSettings(), AgentSettings())


@pytest.mark.parametrize("name", ["../../etc/passwd.yaml", "script.sh", "a/b.yaml"])
def test_a_manifest_cannot_be_written_elsewhere(name: str) -> None:
    plan = NodePlan(Role.MASTER, "a", Attachment(manifests=(Manifest(name, ""),)))
    with pytest.raises(EngineError, match="no name for a manifest"):
        launch_of(plan, ServerSettings(), AgentSettings())


def test_servers_and_agents_are_services_of_their_own_and_only_servers_tell_when_they_are_ready() -> None:
    join = Join("https://10.1.0.2:6443", SecretStr("t"))
    server, agent = (
        launch_of(NodePlan(role, "a", Attachment(), join=join), ServerSettings(), AgentSettings())
        for role in (Role.HA, Role.WORKER)
    )
    assert server.definition == Service(
        "k3s", server.arguments, server.environment,
        title="Lightweight Kubernetes (server)", documentation="https://k3s.io", block="k3s", notifies=True,
    )  # fmt: skip
    assert agent.definition == Service(
        "k3s-agent", agent.arguments, agent.environment,
        title="Lightweight Kubernetes (agent)", documentation="https://k3s.io", block="k3s-agent", notifies=False,
    )  # fmt: skip


def test_what_an_earlier_version_has_written_is_looked_for_where_it_is() -> None:
    assert Home("/var/lib/kairos/engine_k3s", "/etc/rancher/k3s") == HOME


def test_a_first_master_that_may_join_another_runs_on_as_it_is() -> None:
    first = NodePlan(Role.CLUSTER_INIT, "a", Attachment(node_ip="10.1.0.1"), cluster_token=SecretStr("t"))
    alone, safe, elsewhere = (
        launch_of(replace(first, rejoin=server), ServerSettings(), AgentSettings())
        for server in (None, "https://10.1.0.2:6443", "https://10.1.0.3:6443")
    )
    assert alone.arguments[-1] == "--cluster-init"
    assert safe.arguments[-1] == "--server=https://10.1.0.2:6443"
    assert "--cluster-init" not in safe.arguments
    assert alone.lasting == safe.lasting == elsewhere.lasting
    sqlite = launch_of(replace(first, role=Role.MASTER), ServerSettings(), AgentSettings())
    assert sqlite.lasting != alone.lasting, "a move from SQLite to etcd is a start"
    joins = Join("https://10.1.0.2:6443", SecretStr("t"))
    joined = launch_of(replace(first, role=Role.HA, join=joins), ServerSettings(), AgentSettings())
    assert joined.lasting != safe.lasting, "another role is a start"


def test_files_follow_the_operators_directories() -> None:
    settings = ServerSettings.checked(
        {"args": ("-d /srv/k3s", "-o=/root/admin.yaml"), "env": {"K3S_DATA_DIR": "/not/this"}}
    )
    agent = AgentSettings.checked({"env": {"K3S_DATA_DIR": "/mnt/k3s"}, "args": ("--kubelet-arg healthz-port=10300",)})
    manifests = Attachment(manifests=(Manifest("vip.yaml", ""),))
    launch = launch_of(NodePlan(Role.MASTER, "a", manifests), settings, agent)
    assert launch.data_directory == "/srv/k3s"
    assert launch.kubeconfig == "/root/admin.yaml"
    assert launch.manifests[0].path == "/srv/k3s/server/manifests/vip.yaml"
    join = Join("https://10.1.0.2:6443", SecretStr("t"))
    launch = launch_of(NodePlan(Role.WORKER, "a", manifests, join=join), settings, agent)
    assert (launch.data_directory, launch.health_port, launch.manifests) == ("/mnt/k3s", 10300, ())
