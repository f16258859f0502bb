from __future__ import annotations

import pytest
from kairos_engine_k3s.launch import launch_of
from kairos_engine_k3s.settings import AgentSettings, ServerSettings

from kairos_core import Attachment, EngineError, Join, Manifest, NodePlan, Role, SecretStr


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
