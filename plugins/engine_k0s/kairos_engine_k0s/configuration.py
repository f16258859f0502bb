"""From a node's plan to k0s.yaml, the configuration of a controller. Pure.

Only `spec.api` and `spec.storage` are a node's own; all else must be the same on each controller of a cluster, so it
depends on nothing but what all of them know. Source: docs.k0sproject.io, pages configuration, high-availability, nllb.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from kairos_core import NodePlan, Role

METRICS_PORT = 9090
"""Where kube-router serves its metrics. k0s' default, 8080, is the port of Kairos' own API."""


def cluster_config(plan: NodePlan, given: Mapping[str, Any]) -> str:
    """Return the text of k0s.yaml: ours, with what the operator gives merged in. It may hold a password."""
    place = plan.attachment
    names = dict.fromkeys(name for name in (place.endpoint, place.node_ip, *plan.tls_names) if name)
    api: dict[str, Any] = {"address": place.node_ip} if place.node_ip else {}
    # Never externalAddress: kube-proxy would then reach the API server through an address that kube-vip brings up,
    # which runs in pods and so needs kube-proxy first.
    api["sans"] = list(names)
    network: dict[str, Any] = {"provider": "kuberouter", "kuberouter": {"metricsPort": METRICS_PORT}}
    if plan.role in (Role.CLUSTER_INIT, Role.HA):
        # Workers find another controller when the one through which they joined is lost.
        network["nodeLocalLoadBalancing"] = {"enabled": True}
    ours = {
        "apiVersion": "k0s.k0sproject.io/v1beta1",
        "kind": "ClusterConfig",
        "metadata": {"name": "k0s"},
        "spec": {"api": api, "storage": _storage(plan), "network": network},
    }
    return "# Written by Kairos; changes are overwritten. See the k0s block of its configuration.\n" + yaml.safe_dump(
        merged(ours, given), sort_keys=False
    )


def merged(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Merge mappings key by key; of anything else, lists too, theirs stays."""
    result = dict(ours)
    for key, value in theirs.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result


def _storage(plan: NodePlan) -> dict[str, Any]:
    if plan.datastore is not None:
        return {"type": "kine", "kine": {"dataSource": plan.datastore.get_secret_value()}}
    peer = {"etcd": {"peerAddress": plan.attachment.node_ip}} if plan.attachment.node_ip else {}
    return {"type": "etcd", **peer}
