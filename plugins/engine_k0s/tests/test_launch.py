from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml
from kairos_engine_k0s.launch import HOME, launch_of
from kairos_engine_k0s.settings import ControllerSettings, WorkerSettings

from kairos_core import Attachment, EngineError, File, Home, Join, Manifest, NodePlan, Role, SecretStr, Service

Make = Callable[..., str]


@pytest.mark.parametrize(
    ("role", "reason"),
    [(Role.NONE, "nothing to apply"), (Role.WORKER, "Wait for a master"), (Role.HA, "Wait for a master")],
)
def test_a_plan_that_cannot_run_is_refused_with_the_reason(role: Role, reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        launch_of(NodePlan(role, "a", Attachment()), ControllerSettings(), WorkerSettings())


def test_a_further_master_of_an_external_database_joins_too() -> None:
    plan = NodePlan(Role.HA, "a", Attachment(), cluster_token=SecretStr("t"), datastore=SecretStr("postgres://db"))
    with pytest.raises(EngineError, match="master/ha needs a join token"):
        launch_of(plan, ControllerSettings(), WorkerSettings())


@pytest.mark.parametrize(
    ("given", "arguments", "token"),
    [
        ({"args": ["--token-file=/root/token"]}, ("--token-file=/root/token",), None),
        ({"args": ["a-token"]}, ("--token-file=/etc/k0s/token",), File("/etc/k0s/token", "a-token")),
        ({"env": {"K0S_TOKEN": "a-token"}}, (), None),
    ],
)
def test_without_automatic_roles_the_operator_says_what_a_worker_joins(
    given: dict[str, object], arguments: tuple[str, ...], token: File | None
) -> None:
    launch = launch_of(NodePlan(Role.WORKER, "a", Attachment()), ControllerSettings(), WorkerSettings.checked(given))
    assert launch.arguments == ("worker", "--kubelet-extra-args=--hostname-override=a", *arguments)
    assert launch.token == token


def test_a_token_file_of_the_operator_is_not_written_even_where_ours_would_be() -> None:
    worker = WorkerSettings(args=("--token-file=/etc/k0s/token",))
    join = Join("https://10.1.0.2:6443", SecretStr("{}"))
    launch = launch_of(NodePlan(Role.WORKER, "a", Attachment(), join=join), ControllerSettings(), worker)
    assert launch.token is None


def test_the_token_of_another_engine_is_refused_and_not_shown() -> None:
    join = Join("https://10.1.0.2:6443", SecretStr("K10f00d::server:hidden"))
    with pytest.raises(EngineError, match="none of k0s") as caught:
        launch_of(NodePlan(Role.WORKER, "a", Attachment(), join=join), ControllerSettings(), WorkerSettings())
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../etc/passwd.yaml", "script.sh", "a/b.yaml"])
def test_a_manifest_cannot_be_written_elsewhere(name: str) -> None:
    plan = NodePlan(Role.MASTER, "a", Attachment(manifests=(Manifest(name, ""),)))
    with pytest.raises(EngineError, match="no name for a manifest"):
        launch_of(plan, ControllerSettings(), WorkerSettings())


def test_a_static_pod_is_refused_with_the_way_out() -> None:
    plan = NodePlan(Role.MASTER, "a", Attachment(manifests=(Manifest("kubevip.yaml", "", static_pod=True),)))
    with pytest.raises(EngineError, match=r"Set kubevip\.static_pod: false"):
        launch_of(plan, ControllerSettings(), WorkerSettings())


def test_controllers_and_workers_are_services_of_their_own() -> None:
    join = Join("", SecretStr("a-plain-token-of-k0s"))
    controller, worker = (
        launch_of(NodePlan(role, "a", Attachment(), join=join), ControllerSettings(), WorkerSettings())
        for role in (Role.HA, Role.WORKER)
    )
    assert controller.definition == Service(
        "k0scontroller", controller.arguments, controller.environment,
        title="k0s (controller)", documentation="https://docs.k0sproject.io", block="k0s",
    )  # fmt: skip
    assert worker.definition == Service(
        "k0sworker", worker.arguments, worker.environment,
        title="k0s (worker)", documentation="https://docs.k0sproject.io", block="k0s-worker",
    )  # fmt: skip


def test_what_an_earlier_version_has_written_is_looked_for_where_it_is() -> None:
    assert Home("/var/lib/kairos/engine_k0s", "/etc/k0s") == HOME


def test_files_and_ports_follow_the_operators_arguments() -> None:
    controller = ControllerSettings(args=("--data-dir /srv/k0s", "--kubelet-extra-args=--healthz-port=10300"))
    place = Attachment(manifests=(Manifest("vip.yaml", ""),))
    launch = launch_of(NodePlan(Role.MASTER, "a", place), controller, WorkerSettings())
    assert (launch.data_directory, launch.health_port, launch.node_name) == ("/srv/k0s", 10300, "a")
    assert launch.manifests[0].path == "/srv/k0s/manifests/kairos/vip.yaml"


def test_a_cluster_of_one_that_the_operator_wants_takes_nobody_else() -> None:
    launches = [
        launch_of(NodePlan(Role.MASTER, "a", Attachment()), ControllerSettings(args=args), WorkerSettings())
        for args in ((), ("--single",))
    ]
    assert [(launch.is_joinable, launch.runs_pods) for launch in launches] == [(True, True), (False, True)]


def test_what_the_operator_gives_of_k0s_yaml_is_merged_in_key_by_key() -> None:
    config = {"spec": {"api": {"port": 6444, "sans": ["only.example"]}, "network": {"kuberouter": {"mtu": 1400}}}}
    plan = NodePlan(Role.MASTER, "a", Attachment(node_ip="10.1.0.7"))
    launch = launch_of(plan, ControllerSettings(config=config), WorkerSettings())
    assert launch.configuration
    spec = yaml.safe_load(launch.configuration.content)["spec"]
    assert spec["api"] == {"address": "10.1.0.7", "port": 6444, "sans": ["only.example"]}
    assert spec["network"]["kuberouter"] == {"metricsPort": 9090, "mtu": 1400}


def test_what_k0s_yaml_is_given_is_not_shown() -> None:
    settings = ControllerSettings.checked({"config": {"spec": {"password": "hidden"}}})
    assert settings.config == {"spec": {"password": "hidden"}}
    assert "hidden" not in repr(settings)


def test_what_all_masters_must_agree_on_is_the_same_on_all(make_token: Make) -> None:
    join = Join("https://10.1.0.1:6443", SecretStr(make_token("controller-bootstrap", "https://10.1.0.1:9443")))
    specs = []
    for plan in (
        NodePlan(Role.CLUSTER_INIT, "a", Attachment(node_ip="10.1.0.1")),
        NodePlan(Role.HA, "b", Attachment(node_ip="10.1.0.2"), join=join),
    ):
        launch = launch_of(plan, ControllerSettings(), WorkerSettings())
        assert launch.configuration
        specs.append(yaml.safe_load(launch.configuration.content)["spec"])
    shared = [{key: spec[key] for key in spec if key not in ("api", "storage")} for spec in specs]
    assert shared[0] == shared[1]
