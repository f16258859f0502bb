"""Where the stand-in keeps its files, and the k0s.yaml that it reads: as strict as k0s in what it knows of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kairos_core.testing.k0s.flags import Options

# The keys that k0s knows below each that is looked at. Source: pkg/apis/k0s/v1beta1 of k0sproject/k0s.
_KNOWN = {
    "": {"apiVersion", "kind", "metadata", "spec", "status"},
    "spec": {
        *("api", "controllerManager", "extensions", "featureGates", "images", "installConfig", "konnectivity"),
        *("metricsServer", "network", "scheduler", "storage", "telemetry", "workerProfiles"),
    },
    "spec.api": {
        *("address", "ca", "externalAddress", "extraArgs", "k0sApiPort", "onlyBindToAddress", "port", "sans"),
    },
    "spec.storage": {"etcd", "kine", "type"},
    "spec.storage.etcd": {"ca", "externalCluster", "extraArgs", "peerAddress"},
    "spec.storage.kine": {"dataSource"},
    "spec.network": {
        *("calico", "clusterDomain", "controlPlaneLoadBalancing", "dualStack", "kubeProxy", "kuberouter"),
        *("nodeLocalLoadBalancing", "podCIDR", "primaryAddressFamily", "provider", "serviceCIDR"),
    },
    "spec.network.kuberouter": {
        *("autoMTU", "extraArgs", "hairpin", "hairpinMode", "ipMasq", "metricsPort", "mtu", "peerRouterASNs"),
        *("patches", "peerRouterIPs", "rawArgs"),
    },
    "spec.network.nodeLocalLoadBalancing": {"enabled", "envoyProxy", "traefik", "type"},
}


class Refused(Exception):
    """What k0s ends with; the message follows "Error: "."""


@dataclass(frozen=True, slots=True)
class Places:
    """k0s' places under a root that only the stand-in knows."""

    root: Path
    data: Path

    @classmethod
    def of(cls, options: Options) -> Places:
        """Read the data directory and the root."""
        root = Path(os.environ.get("KAIROS_STAND_IN_ROOT") or "/")
        return cls(root, cls.rooted(root, options.value("data-dir", "/var/lib/k0s")))

    @staticmethod
    def rooted(root: Path, path: str) -> Path:
        """Return where one of k0s' own paths is under the root; others stay."""
        return root / path.lstrip("/") if path.startswith(("/etc/k0s", "/var/lib/k0s")) else Path(path)

    def path(self, path: str) -> Path:
        """Return where one of k0s' own paths is."""
        return self.rooted(self.root, path)

    @property
    def pki(self) -> Path:
        return self.data / "pki"

    @property
    def inside(self) -> Path:
        """Where the stand-in k3s behind this front keeps its own."""
        return self.data / "stand-in"


def read_config(places: Places, options: Options) -> dict[str, Any]:
    """Return `spec` of k0s.yaml; empty without a file. Raises Refused for what k0s would not take."""
    import yaml

    path = places.path(options.value("config", "/etc/k0s/k0s.yaml"))
    if not path.exists():
        if "config" in options.given:
            raise Refused(f"failed to load node config: open {path}: no such file or directory")
        return {}
    document = yaml.safe_load(path.read_text()) or {}
    _check(document, "")
    if document.get("kind", "ClusterConfig") != "ClusterConfig":
        raise Refused(f"failed to load node config: unknown kind {document['kind']}")
    spec: dict[str, Any] = document.get("spec") or {}
    kind = spec.get("storage", {}).get("type", "etcd")
    if kind not in ("etcd", "kine"):
        raise Refused(f'invalid node config: storage: type: Unsupported value: "{kind}"')
    network = spec.get("network", {})
    if network.get("nodeLocalLoadBalancing", {}).get("enabled") and spec.get("api", {}).get("externalAddress"):
        raise Refused(
            "invalid node config: network: nodeLocalLoadBalancing.enabled: cannot be used with externalAddress"
        )
    return spec


def _check(document: Mapping[str, Any], path: str) -> None:
    for key, value in document.items():
        if key not in _KNOWN[path]:
            raise Refused(f'failed to load node config: error unmarshaling JSON: json: unknown field "{key}"')
        below = f"{path}.{key}".lstrip(".")
        if isinstance(value, Mapping) and below in _KNOWN:
            _check(value, below)
