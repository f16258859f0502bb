"""What each role runs in each network, with and without a database, and under the operator's overrides.

Regenerate with: python plugins/engine_k3s/tests/test_matrix.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kairos_engine_k3s.launch import Launch, launch_of
from kairos_engine_k3s.settings import AgentSettings, ServerSettings

from kairos_core import Attachment, EngineError, Join, Manifest, NodePlan, Role, SecretStr
from kairos_core.testing.k3s.flags import Options

GOLDEN = Path(__file__).parent / "golden" / "matrix.txt"
SECRETS = ("cluster-token", "K10join::server:token", "operators-token", "user:password", "mysql://theirs")

VPN = Attachment("kairos0", "10.1.0.7")
ELASTIC = Attachment(None, "192.168.1.7", "192.168.1.110", (Manifest("kubevip.yaml", "kind: DaemonSet\n"),))
NETWORKS = {
    "lan": Attachment(None, "192.168.1.7"),
    "vpn": VPN,
    "vpn+eip": VPN.merged(ELASTIC),
    "eip": ELASTIC,
    "eip as a static pod": Attachment(
        None, "192.168.1.7", "192.168.1.110", (Manifest("kubevip.yaml", "kind: Pod\n", static_pod=True),)
    ),
    "none": Attachment(),
}
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
    for role in (Role.MASTER, Role.CLUSTER_INIT, Role.HA, Role.WORKER):
        for network in NETWORKS:
            for datastore in (None, DATASTORE):
                name = f"{role} {network}{' external_db' if datastore else ''}"
                yield name, plan_of(role, network, datastore), *nothing
    yield "master joining another master", plan_of(Role.MASTER, "vpn", joins=True), *nothing
    for name, given in OVERRIDES.items():
        server = ServerSettings.checked(given)
        yield f"master/ha vpn k3s {name}", plan_of(Role.HA, "vpn"), server, AgentSettings()
        yield (
            f"master vpn external_db k3s {name}",
            plan_of(Role.MASTER, "vpn", DATASTORE),
            server,
            AgentSettings(),
        )
        yield f"worker vpn k3s {name}", plan_of(Role.WORKER, "vpn"), server, AgentSettings()
        if name != "embedded_registry":
            agent = AgentSettings.checked(given)
            yield f"worker vpn k3s-agent {name}", plan_of(Role.WORKER, "vpn"), ServerSettings(), agent
            yield f"master vpn k3s-agent {name}", plan_of(Role.MASTER, "vpn"), ServerSettings(), agent


def plan_of(role: Role, network: str, datastore: SecretStr | None = None, *, joins: bool | None = None) -> NodePlan:
    """Return the plan of a case: workers and further masters join, the others have the cluster's token."""
    joins = role in (Role.HA, Role.WORKER) if joins is None else joins
    return NodePlan(
        role,
        "edge-7",
        NETWORKS[network],
        cluster_token=None if joins else SecretStr("cluster-token"),
        join=JOIN if joins else None,
        datastore=datastore,
        tls_names=("edge-7", "192.168.1.7"),
    )


def described(launch: Launch) -> str:
    """Write a launch down, secrets and all: these are no real ones."""
    lines = [f"    {launch.service}: {' '.join(launch.arguments)}"]
    lines += [f"    {name}={secret.get_secret_value()}" for name, secret in launch.environment.items()]
    lines += [f"    {file.path} {file.mode:o}" for file in launch.manifests]
    return "\n".join(lines)


def table() -> str:
    """Return the whole matrix as text."""
    parts = []
    for name, plan, server, agent in cases():
        try:
            text = described(launch_of(plan, server, agent))
        except EngineError as error:
            text = f"    refused: {error}"
        parts.append(f"{name}\n{text}\n")
    return "\n".join(parts)


CASES = {name: (plan, server, agent) for name, plan, server, agent in cases()}


def test_the_matrix_is_as_it_was() -> None:
    golden = GOLDEN.read_text()
    assert table() == golden, "regenerate as the head of this file says, and read the difference"


@pytest.mark.parametrize("name", CASES)
def test_no_secret_is_in_the_arguments_or_a_repr(name: str) -> None:
    launch = launch_of(*CASES[name])
    assert not [secret for secret in SECRETS if secret in " ".join(launch.arguments)]
    assert not [secret for secret in SECRETS if secret in repr(launch)]


@pytest.mark.parametrize("name", [name for name in CASES if "k3s-agent" not in name])
def test_k3s_takes_every_argument(name: str) -> None:
    launch = launch_of(*CASES[name])
    environment = {key: secret.get_secret_value() for key, secret in launch.environment.items()}
    options = Options(launch.arguments[0], launch.arguments[1:], environment)
    assert not (options.value("server") and options.is_set("cluster-init"))


if __name__ == "__main__":
    GOLDEN.write_text(table())
