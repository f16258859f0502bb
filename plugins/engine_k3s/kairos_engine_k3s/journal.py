"""How k3s' log is read: what its lines look like, and what no waiting mends. Pure."""

from __future__ import annotations

import re
from types import MappingProxyType

from kairos_core import Journal

# Kubernetes' own log (k8s.io/klog): severity and date, time, thread, place
_KLOG = r"^{}\d{{4}} [\d:.]+ +\d+ [^]]+\] (.*)$"

JOURNAL = Journal(
    program="k3s",
    start=re.compile(r'msg="Starting k3s '),
    is_up=re.compile(r"k3s (agent )?is up and running"),
    lines=MappingProxyType({"error": re.compile(_KLOG.format("E")), "fatal": re.compile(_KLOG.format("F"))}),
    # Wording of k3s v1.19 to v1.34 (pkg/clientaccess, pkg/agent/config, pkg/etcd).
    hopeless=MappingProxyType(
        {
            "401 Unauthorized": "the join token is wrong: it is that of another cluster, or an old one",
            "token CA hash does not match": "the join token belongs to another cluster than this server",
            "Node password rejected": (
                "another machine has joined under this node's name: delete that node from the cluster, "
                "or give this machine another host name"
            ),
            "different token": (
                "the cluster's data was written with another token than the one given now: was it rotated? The new one "
                "comes from a running master, or by K3S_TOKEN in k3s.env"
            ),
            "not a member of the etcd cluster": "etcd knows this master by another address",
            "etcd disabled": "the first master was not started with --cluster-init, so no second one can join it",
        }
    ),
    # K10 stays, so that one still sees what it was.
    join_token=re.compile(r"(?<=K10)[0-9a-f]{8,}::\S+"),
)
