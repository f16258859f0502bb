"""What each role runs in each network, with and without a database, and under the operator's overrides.

Regenerate with: python plugins/engine_k3s/tests/test_matrix.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kairos_engine_k3s.launch import launch_of
from kairos_engine_k3s.settings import AgentSettings, ServerSettings

from kairos_core import Join, Manifest, NodePlan, Role, SecretStr
from kairos_core.testing.k3s.flags import Options
from kairos_core.testing.plans import (
    CLUSTER_TOKEN,
    NETWORKS,
    check_hidden,
    described,
    plan_of,
    plans,
    plans_of_master,
    plans_of_worker,
    table,
)

GOLDEN = Path(__file__).parent / "golden" / "matrix.txt"
SECRETS = (CLUSTER_TOKEN, "K10join::server:token", "operators-token", "user:password", "mysql://theirs")

STATIC_POD = replace(NETWORKS["eip"], manifests=(Manifest("kubevip.yaml", "kind: Pod\n", static_pod=True),))
PLACES = {**NETWORKS, "eip as a static pod": STATIC_POD}
PLACES["none"] = PLACES.pop("none")  # stays the last one
VPN = NETWORKS["vpn"]
JOIN = Join("https://10.1.0.2:6443", SecretStr("K10join::server:token"))
DATASTORE = SecretStr("postgres://user:password@db/k3s")
OVERRIDES = {
    "args": {
        "args": [
            "--disable=traefik,servicelb",
            "--node-ip 10.9.9.9",
            "--tls-san=extra.example",
            "-t operators-token",
            "--kubelet-arg=max-pods=50",
        ]
    },
    "env": {"env": {"K3S_TOKEN": "operators-token", "CONTAINERD_LOG_LEVEL": "debug", "NUMBER": 1, "FLAG": True}},
    "replace_args": {"args": ["--debug", "--datastore-endpoint=mysql://theirs"], "replace_args": True},
    "replace_env": {"env": {"K3S_DEBUG": "true"}, "replace_env": True},
    "embedded_registry": {"embedded_registry": True},
    "disabled": {"enabled": False, "args": ["--debug"], "env": {"A": "b"}},
}


def cases() -> Iterator[tuple[str, NodePlan, ServerSettings, AgentSettings]]:
    """Yield name, plan and settings of each case."""
    nothing = ServerSettings(), AgentSettings()
    for name, plan in plans(PLACES, JOIN, DATASTORE):
        yield name, plan, *nothing
    yield "master joining another master", plan_of(Role.MASTER, VPN, JOIN), *nothing
    first = replace(plan_of(Role.CLUSTER_INIT, VPN), rejoin=JOIN.server)
    yield "master/clusterinit with others", first, *nothing
    yield "master/clusterinit with others external_db", replace(first, datastore=DATASTORE), *nothing
    for name, given in OVERRIDES.items():
        server = ServerSettings.checked(given)
        for tried, plan in plans_of_master(f"k3s {name}", JOIN, DATASTORE):
            yield tried, plan, server, AgentSettings()
        if name != "embedded_registry":
            agent = AgentSettings.checked(given)
            for tried, plan in plans_of_worker(f"k3s-agent {name}", JOIN):
                yield tried, plan, ServerSettings(), agent


CASES = {name: (plan, server, agent) for name, plan, server, agent in cases()}


def test_the_matrix_is_as_it_was() -> None:
    found = table(CASES, launch_of, described)
    assert found == GOLDEN.read_text(), "regenerate as the head of this file says, and read the difference"


@pytest.mark.parametrize("name", CASES)
def test_no_secret_is_in_the_arguments_or_a_repr(name: str) -> None:
    check_hidden(launch_of(*CASES[name]), SECRETS)


@pytest.mark.parametrize("name", [name for name in CASES if "k3s-agent" not in name])
def test_k3s_takes_every_argument(name: str) -> None:
    launch = launch_of(*CASES[name])
    environment = {key: secret.get_secret_value() for key, secret in launch.environment.items()}
    options = Options(launch.arguments[0], launch.arguments[1:], environment)
    assert not (options.value("server") and options.is_set("cluster-init"))


if __name__ == "__main__":
    GOLDEN.write_text(table(CASES, launch_of, described))
