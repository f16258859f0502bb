"""The manifests of kube-vip for the control plane: RBAC and DaemonSet, or a static Pod. Pure.

Source: what `kube-vip manifest daemonset|pod` writes (kube-vip v1.2, pkg/kubevip/config_generator.go), with
the values that the reference forces; the rules are kube-vip's own, of which the reference leaves four out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import yaml

from kairos_core import Manifest
from kairos_net_kubevip.fields import environment_of, kubeconfig_of
from kairos_net_kubevip.settings import KubeVipSettings

RBAC_FILE, WORKLOAD_FILE = "kubevipmanifest.yaml", "kubevip.yaml"
"""File names of the reference, so that an upgrade replaces its manifests."""

KUBECONFIG = "/etc/rancher/k3s/k3s.yaml"
"""The administrator's kubeconfig on a master, for a static Pod; `config.k8sConfigFile` names another."""

_NAMESPACE = "kube-system"
_READ_WRITE = ["list", "get", "watch", "update"]
_RULES = (
    ("", ["services/status"], ["update"]),
    ("", ["services", "endpoints"], _READ_WRITE),
    ("", ["nodes"], [*_READ_WRITE, "patch"]),
    ("coordination.k8s.io", ["leases"], [*_READ_WRITE, "create"]),
    ("discovery.k8s.io", ["endpointslices"], _READ_WRITE),
    ("", ["pods"], ["list"]),
    ("networking.k8s.io", ["servicecidrs"], ["list", "get", "watch"]),
)
_WORKLOADS = {"DaemonSet", "Deployment", "Pod", "StatefulSet"}


def manifests_of(
    settings: KubeVipSettings, interface: str | None, downloaded: str | None = None
) -> tuple[Manifest, ...]:
    """Return the manifests for these settings and the interface that carries the elastic IP.

    `downloaded` (of `manifest_url`) replaces the built-in RBAC, as in the reference; should it run kube-vip
    itself, it replaces the built-in DaemonSet or Pod too.
    """
    if downloaded is not None and _runs_a_workload(downloaded):
        return (Manifest(RBAC_FILE, downloaded),)
    rbac = Manifest(RBAC_FILE, downloaded if downloaded is not None else _dump(rbac_documents()))
    if not settings.static_pod:
        return rbac, Manifest(WORKLOAD_FILE, _dump([daemonset(settings, interface)]))
    pod = Manifest(WORKLOAD_FILE, _dump([static_pod(settings, interface)]), static_pod=True)
    # A static Pod speaks with the administrator's kubeconfig and needs no account.
    return (pod,) if downloaded is None else (rbac, pod)


def rbac_documents() -> list[dict[str, Any]]:
    """Return the service account of kube-vip, its role and their binding."""
    role, account = "system:kube-vip-role", {"name": "kube-vip", "namespace": _NAMESPACE}
    api = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role},
            "rules": [{"apiGroups": [group], "resources": what, "verbs": list(how)} for group, what, how in _RULES],
        },
        {
            "apiVersion": f"{api}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "system:kube-vip-binding"},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    ]


def environment(settings: KubeVipSettings, interface: str | None) -> dict[str, str]:
    """Return the variables of kube-vip: what Kairos needs, and above it what the operator configured."""
    kairos = {
        "vip_arp": "true",
        "port": "6443",
        **({"vip_interface": interface} if interface else {}),
        "vip_subnet": ",".join(str(ip.max_prefixlen) for ip in settings.addresses),
        "cp_enable": "true",
        "cp_namespace": _NAMESPACE,
        "vip_leaderelection": "true",
        "vip_leasename": "plndr-cp-lock",
        "vip_leaseduration": "5",
        "vip_renewdeadline": "3",
        "vip_retryperiod": "1",
        "address": ",".join(str(ip) for ip in settings.addresses),
        "prometheus_server": ":2112",
    }
    return kairos | (_by_routing(settings, interface) if settings.is_routed else {}) | environment_of(settings.config)


def _by_routing(settings: KubeVipSettings, interface: str | None) -> dict[str, str]:
    """Return what differs where routers are told of the elastic IP, by BGP or through the routing table.

    Each master has the address on its loopback interface and announces it, so nobody is elected and nobody asked by
    ARP. Source: kube-vip.io, installation as a DaemonSet, BGP.
    """
    router = {"bgp_routerinterface": interface} if interface else {}
    return {
        "vip_arp": "false",
        "vip_leaderelection": "false",
        "vip_interface": settings.interface or "lo",
        **(router if not {"routerID", "sourceIP"} & set(settings.config.get("bgpConfig") or {}) else {}),
    }


def daemonset(settings: KubeVipSettings, interface: str | None) -> dict[str, Any]:
    """Return the DaemonSet that runs kube-vip on each master."""
    name = "app.kubernetes.io/name"
    labels = {name: "kube-vip-ds", "app.kubernetes.io/version": settings.version}
    on_masters = [
        {"matchExpressions": [{"key": f"node-role.kubernetes.io/{role}", "operator": "Exists"}]}
        for role in ("master", "control-plane")
    ]
    spec = _pod_spec(settings, interface) | {
        "serviceAccountName": "kube-vip",
        "tolerations": [{"effect": effect, "operator": "Exists"} for effect in ("NoSchedule", "NoExecute")],
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": on_masters}}
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "kube-vip-ds", "namespace": _NAMESPACE, "labels": dict(labels)},
        "spec": {
            "selector": {"matchLabels": {name: "kube-vip-ds"}},
            "template": {"metadata": {"labels": dict(labels)}, "spec": spec},
        },
    }


def static_pod(settings: KubeVipSettings, interface: str | None) -> dict[str, Any]:
    """Return the Pod that the kubelet of each master runs by itself, before there is any cluster network."""
    spec = _pod_spec(settings, interface)
    # kube-vip looks for its kubeconfig at this path, and for the API server under the name `kubernetes`.
    spec["containers"][0]["volumeMounts"] = [
        {"name": "kubeconfig", "mountPath": "/etc/kubernetes/admin.conf", "readOnly": True}
    ]
    path = kubeconfig_of(settings.config) or KUBECONFIG
    spec["volumes"] = [{"name": "kubeconfig", "hostPath": {"path": path, "type": "File"}}]
    spec["hostAliases"] = [{"ip": "127.0.0.1", "hostnames": ["kubernetes"]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kube-vip", "namespace": _NAMESPACE},
        "spec": spec,
    }


def _pod_spec(settings: KubeVipSettings, interface: str | None) -> dict[str, Any]:
    variables = environment(settings, interface)
    listed: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in variables.items()]
    if "vip_nodename" not in variables:
        field = {"fieldRef": {"fieldPath": "spec.nodeName"}}
        listed.append({"name": "vip_nodename", "valueFrom": field})
    # Masquerading loads kernel modules and writes sysctls.
    is_privileged = variables.get("lb_fwdmethod") == "masquerade"
    capabilities = {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}}
    container = {
        "name": "kube-vip",
        "image": image_of(settings.image, settings.version),
        "imagePullPolicy": "IfNotPresent",
        "args": ["manager"],
        "env": listed,
        "securityContext": {"privileged": True} if is_privileged else capabilities,
    }
    return {"hostNetwork": True, "containers": [container]}


def image_of(image: str, version: str) -> str:
    """Return the image with its tag; one that names a tag or digest itself is kept."""
    last = image.rpartition("/")[2]
    return image if ":" in last or "@" in last else f"{image}:{version}"


def _runs_a_workload(text: str) -> bool:
    documents = yaml.load_all(text, yaml.CSafeLoader)
    return any(isinstance(one, dict) and one.get("kind") in _WORKLOADS for one in documents)


def _dump(documents: Iterable[dict[str, Any]]) -> str:
    return yaml.dump_all(documents, Dumper=_Plain, sort_keys=False)


class _Plain(yaml.SafeDumper):
    """Writes repeated lists out instead of naming them once: manifests are read by people too."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
