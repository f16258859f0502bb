"""What we must know of k3s' flags to merge them: which are switches, which add up, which are secret. Pure.

Source: docs.k3s.io, pages cli/server and cli/agent (k3s-io/docs at 0243496 and 1f023c0). A flag that is in no
table here takes one value; k3s itself refuses what it does not know.
"""

from __future__ import annotations

from types import MappingProxyType


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SWITCHES = _words(
    """
    alsologtostderr cluster-init cluster-reset debug disable-agent disable-apiserver disable-apiserver-lb
    disable-cloud-controller disable-controller-manager disable-default-registry-endpoint disable-etcd
    disable-helm-controller disable-kube-proxy disable-network-policy disable-scheduler disable-selinux docker
    embedded-registry enable-pprof etcd-disable-snapshots etcd-expose-metrics etcd-s3 etcd-s3-insecure
    etcd-s3-skip-ssl-verify etcd-snapshot-compress flannel-external-ip flannel-ipv6-masq no-flannel
    nonroot-devices prefer-bundled-bin protect-kernel-defaults rootless secrets-encryption selinux
    supervisor-metrics tls-san-security with-node-id
    """
)
"""Flags without a value (`--debug`, or `--debug=false`)."""

ADDING = _words(
    """
    airgap-extra-registry disable etcd-arg kube-apiserver-arg kube-cloud-controller-arg
    kube-cloud-controller-manager-arg kube-controller-arg kube-controller-manager-arg kube-proxy-arg
    kube-scheduler-arg kubelet-arg node-external-dns node-internal-dns node-label node-taint tls-san
    """
)
"""Flags whose values add up when given several times.

`--node-ip`, `--node-external-ip`, `--cluster-cidr`, `--service-cidr` and `--cluster-dns` are lists to k3s
too, of one address per family: there the operator's must replace ours, or the node would get two of one
family.
"""

SHORT = MappingProxyType(
    {
        "c": "config",
        "d": "data-dir",
        "i": "node-ip",
        "l": "log",
        "o": "write-kubeconfig",
        "s": "server",
        "t": "token",
    }
)

SECRET = MappingProxyType(
    {
        "agent-token": "K3S_AGENT_TOKEN",
        "cluster-secret": "K3S_CLUSTER_SECRET",
        "datastore-endpoint": "K3S_DATASTORE_ENDPOINT",
        "etcd-s3-access-key": "AWS_ACCESS_KEY_ID",
        "etcd-s3-secret-key": "AWS_SECRET_ACCESS_KEY",
        "token": "K3S_TOKEN",
        "vpn-auth": "K3S_VPN_AUTH",
    }
)
"""Flags that hold a secret, and the variable that says the same: every user of the machine can read argv."""
