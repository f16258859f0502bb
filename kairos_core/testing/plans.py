"""For authors of engines: the plans that an engine may be given, each role in each kind of network.

An engine's tests write down what it would run for each, and compare that with a golden copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kairos_core.model import Attachment, Join, Manifest, NodePlan, Role
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
