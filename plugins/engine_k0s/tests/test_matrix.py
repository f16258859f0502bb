"""What each role runs in each network, with and without a database, and under the operator's overrides.

Regenerate with: python plugins/engine_k0s/tests/test_matrix.py
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kairos_engine_k0s.launch import Launch, launch_of
from kairos_engine_k0s.settings import ControllerSettings, WorkerSettings
from kairos_engine_k0s.tokens import format_tokens

from kairos_core import Join, NodePlan, Role, SecretStr
from kairos_core.testing.k0s.flags import parse
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
SECRETS = (CLUSTER_TOKEN, "abcdef.controller", "abcdef.worker", "operators-token", "user:password", "H4sI")


def _token(role: str, server: str) -> str:
    document = {
        "clusters": [{"cluster": {"server": server, "certificate-authority-data": "UEVNCg=="}, "name": "k0s"}],
        "users": [{"name": role, "user": {"token": f"abcdef.{role}"}}],
    }
    return base64.b64encode(gzip.compress(yaml.safe_dump(document).encode(), mtime=0)).decode()


VPN = NETWORKS["vpn"]
TOKENS = {
    "controller": _token("controller", "https://10.1.0.1:9443"),
    "worker": _token("worker", "https://10.1.0.1:6443"),
}
JOIN = Join("https://10.1.0.2:6443", format_tokens(TOKENS))
DATASTORE = SecretStr("postgres://user:password@db/k0s")
OVERRIDES: dict[str, dict[str, Any]] = {
    "args": {
        "args": [
            "--labels=tier=edge",
            "--kubelet-extra-args='--node-ip=10.9.9.9 --max-pods=50'",
            "--profile small",
            "-d",
        ]
    },
    "no worker": {"args": ["--enable-worker=false"]},
    "own token file": {"args": ["--token-file=/root/token"]},
    "token as a word": {"args": ["operators-token"]},
    "env": {"env": {"K0S_TOKEN": "operators-token", "HTTPS_PROXY": "http://proxy:3128", "NUMBER": 1, "FLAG": True}},
    "replace_args": {"args": ["--debug"], "replace_args": True},
    "replace_env": {"env": {"HTTPS_PROXY": "http://proxy:3128"}, "replace_env": True},
    "disabled": {"enabled": False, "args": ["--debug"], "env": {"A": "b"}},
}
CONTROLLERS_ONLY: dict[str, dict[str, Any]] = {
    "own config": {"args": ["--config=/root/k0s.yaml"]},
    "config": {"config": {"spec": {"network": {"podCIDR": "10.42.0.0/16"}, "telemetry": {"enabled": False}}}},
}


def cases() -> Iterator[tuple[str, NodePlan, ControllerSettings, WorkerSettings]]:
    """Yield name, plan and settings of each case."""
    nothing = ControllerSettings(), WorkerSettings()
    for name, plan in plans(NETWORKS, JOIN, DATASTORE):
        yield name, plan, *nothing
    yield "master joining another master", plan_of(Role.MASTER, VPN, JOIN), *nothing
    for name, given in (OVERRIDES | CONTROLLERS_ONLY).items():
        controller = ControllerSettings.checked(given)
        for tried, plan in plans_of_master(f"k0s {name}", JOIN, DATASTORE):
            yield tried, plan, controller, WorkerSettings()
    for name, given in OVERRIDES.items():
        if name != "no worker":
            worker = WorkerSettings.checked(given)
            for tried, plan in plans_of_worker(f"k0s-worker {name}", JOIN):
                yield tried, plan, ControllerSettings(), worker


def described_with_files(launch: Launch) -> str:
    """Write a launch down, with the files that k0s is to read at its start."""
    lines = []
    if launch.token:
        lines.append(f"{launch.token.path} {launch.token.mode:o}: {_unpacked(launch.token.content)}")
    if launch.configuration:
        spec = yaml.safe_dump(yaml.safe_load(launch.configuration.content)["spec"], default_flow_style=True, width=9999)
        lines.append(f"{launch.configuration.path} {launch.configuration.mode:o}: {spec.strip()}")
    return described(launch, *lines)


def _unpacked(token: str) -> str:
    """Return what a token says; compressed bytes depend on the version of zlib."""
    if not token.startswith("H4sI"):
        return token
    document = yaml.safe_load(gzip.decompress(base64.b64decode(token)))
    return f"{document['users'][0]['user']['token']} at {document['clusters'][0]['cluster']['server']}"


CASES = {name: (plan, controller, worker) for name, plan, controller, worker in cases()}


def test_the_matrix_is_as_it_was() -> None:
    found = table(CASES, launch_of, described_with_files)
    assert found == GOLDEN.read_text(), "regenerate as the head of this file says, and read the difference"


@pytest.mark.parametrize("name", CASES)
def test_no_secret_is_in_the_arguments_or_a_repr(name: str) -> None:
    check_hidden(launch_of(*CASES[name]), SECRETS)


@pytest.mark.parametrize("name", CASES)
def test_k0s_takes_every_argument_and_one_source_of_a_token(name: str) -> None:
    launch = launch_of(*CASES[name])
    options = parse(launch.role, launch.arguments[1:])
    sources = [bool(options.words), bool(options.value("token-file")), "K0S_TOKEN" in launch.environment]
    assert sum(sources) <= 1


if __name__ == "__main__":
    GOLDEN.write_text(table(CASES, launch_of, described_with_files))
