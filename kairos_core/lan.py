"""Which network interfaces lead to the local network, judged by name. Pure.

A container's interface is called `eth0` though the kernel makes it a veth, so the kind of an interface says
nothing; its name says who made it.
"""

from __future__ import annotations

import re

_NOT_LAN = re.compile(
    r"""
    lo | dummy.* | ifb.*                                     # the machine itself
    | docker.* | br-[0-9a-f]{12} | veth.* | podman.*         # containers (br- and an id: a Docker network)
    | cni.* | flannel.* | cilium.* | lxc.* | cali.* | kube-.* | nodelocaldns  # Kubernetes
    | virbr.* | vnet.* | lxdbr.*                             # virtual machines
    | kairos.* | edgevpn.* | tun.* | tap.* | wg.* | tailscale.* | zt.* | ppp.*  # our own tunnel, and others
    | sit.* | gre.* | gretap.* | erspan.* | ip6tnl.* | ip6gre.* | ip_vti.* | ip6_vti.* | vxlan.*
    """,
    re.VERBOSE,
)


def is_lan_interface(name: str) -> bool:
    """Say whether an interface of this name may lead to the local network.

    False for loopback, tunnels and what containers, Kubernetes and virtual machines make (`docker0`,
    `veth1a2b`, `cni0`, `flannel.1`, `kairos0`). Names that an operator gave to such are not known.
    """
    return _NOT_LAN.fullmatch(name) is None
