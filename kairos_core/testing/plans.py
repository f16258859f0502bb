"""For authors of engines: the plans that an engine may be given, each role in each kind of network.

An engine's tests write down what it would run for each, by its function `launch_of` of a plan and of settings, and
compare that with a golden copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from kairos_core.errors import EngineError
from kairos_core.model import Attachment, Join, Manifest, NodePlan, Role
from kairos_core.service.definition import File
from kairos_core.settings import SecretStr

CLUSTER_TOKEN = "cluster-token"
"""The secret that a plan has which joins nobody."""

_VPN = Attachment("kairos0", "10.1.0.7")
_ELASTIC = Attachment(None, "192.168.1.7", "192.168.1.110", (Manifest("kubevip.yaml", "kind: DaemonSet\n"),))

NETWORKS: Mapping[str, Attachment] = {
    "lan": Attachment(None, "192.168.1.7"),
    "vpn": _VPN,
    "vpn+eip": _VPN.merged(_ELASTIC),
    "eip": _ELASTIC,
    "none": Attachment(),
}
"""What the networks give a node: the VPN, an elastic IP, both, neither, and nothing that is known yet."""


def plan_of(role: Role, place: Attachment, join: Join | None = None, datastore: SecretStr | None = None) -> NodePlan:
    """Return a plan of the node edge-7: with `join` it joins, without it has the cluster's token."""
    return NodePlan(
        role,
        "edge-7",
        place,
        cluster_token=None if join else SecretStr(CLUSTER_TOKEN),
        join=join,
        datastore=datastore,
        tls_names=("edge-7", "192.168.1.7"),
    )


def plans(networks: Mapping[str, Attachment], join: Join, datastore: SecretStr) -> Iterator[tuple[str, NodePlan]]:
    """Yield a name and a plan for each role that runs Kubernetes in each network, without and with a database."""
    for role in (Role.MASTER, Role.CLUSTER_INIT, Role.HA, Role.WORKER):
        joined = join if role in (Role.HA, Role.WORKER) else None
        for network, place in networks.items():
            for database in (None, datastore):
                name = f"{role} {network}{' external_db' if database else ''}"
                yield name, plan_of(role, place, joined, database)


def plans_of_master(block: str, join: Join, datastore: SecretStr) -> Iterator[tuple[str, NodePlan]]:
    """Yield the plans with which a setting of a master's block is tried: two of masters, and one that it is not for."""
    vpn = NETWORKS["vpn"]
    yield f"master/ha vpn {block}", plan_of(Role.HA, vpn, join)
    yield f"master vpn external_db {block}", plan_of(Role.MASTER, vpn, datastore=datastore)
    yield f"worker vpn {block}", plan_of(Role.WORKER, vpn, join)


def plans_of_worker(block: str, join: Join) -> Iterator[tuple[str, NodePlan]]:
    """Yield the plans with which a setting of a worker's block is tried: a worker's, and one that it is not for."""
    vpn = NETWORKS["vpn"]
    yield f"worker vpn {block}", plan_of(Role.WORKER, vpn, join)
    yield f"master vpn {block}", plan_of(Role.MASTER, vpn)


class Launch(Protocol):
    """What an engine would run, as far as all of them say it in the same words."""

    @property
    def service(self) -> str: ...

    @property
    def arguments(self) -> tuple[str, ...]: ...

    @property
    def environment(self) -> Mapping[str, SecretStr]: ...

    @property
    def manifests(self) -> tuple[File, ...]: ...


L = TypeVar("L", bound=Launch)


def described(launch: Launch, *others: str) -> str:
    """Write a launch down, with further lines of the engine's; secrets and all, since these are no real ones."""
    lines = [f"{launch.service}: {' '.join(launch.arguments)}"]
    lines += [f"{name}={secret.get_secret_value()}" for name, secret in launch.environment.items()]
    lines += others
    lines += [f"{file.path} {file.mode:o}" for file in launch.manifests]
    return "\n".join(f"    {line}" for line in lines)


def table(cases: Mapping[str, Iterable[Any]], launch_of: Callable[..., L], describe: Callable[[L], str]) -> str:
    """Return as text what an engine would run in each case, or why it refuses; a case has what `launch_of` takes."""
    parts = []
    for name, given in cases.items():
        try:
            text = describe(launch_of(*given))
        except EngineError as error:
            text = f"    refused: {error}"
        parts.append(f"{name}\n{text}\n")
    return "\n".join(parts)


def check_hidden(launch: Launch, secrets: Iterable[str]) -> None:
    """Hold an engine to it that a launch has no secret in its arguments, which all can read, and shows none."""
    for shown in (" ".join(launch.arguments), repr(launch)):
        assert not [secret for secret in secrets if secret in shown], "arguments and a repr must show no secret"
