"""What to do when etcd knows this server by another address than the one it has. Pure.

etcd keeps the address of each member. k3s never changes it at a start: a server with another address says "this server
is a not a member of the etcd cluster" and waits for ever, whether it is the only one or one of several.
Source: k3s-io/k3s pkg/etcd/etcd.go (Test, Reset), issues 4296, 5651, 6524, 10362.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from kairos_core import argument_value
from kairos_engine_k3s.launch import Launch

_STRANGER = re.compile(r"not a member of the etcd cluster\. Found \[(.*)\], expect: (\S+=\S+)")
_PAGE = "docs/how-to/new-address.md"


def way_back(complaint: str, launch: Launch) -> str:
    """Return what an operator has to do about a complaint of k3s that its address is another one, else nothing.

    A status is cut after 256 characters, so this is short.
    """
    match = _STRANGER.search(complaint)
    if match is None:
        return ""
    members = dict(member.partition("=")[::2] for member in match[1].split())
    name, _, url = match[2].partition("=")
    old, now = _host(members.get(name, "")), _host(url)
    what = f"etcd knows this master by its old address {old}, and now it has {now}. Give it the old one again, or "
    if not old:
        return f"this machine is no member of the etcd on its disk any more: see {_PAGE}"
    if len(members) > 1:
        node = argument_value(launch.arguments, "node-name") or name.rpartition("-")[0]  # etcd's has a random end
        return f"{what}let it join anew: first, on another master, kubectl delete node {node}; then see {_PAGE}"
    flags = " ".join(
        f"--{flag}={value}"
        for flag in ("data-dir", "node-name", "node-ip")
        if (value := argument_value(launch.arguments, flag))
    )
    return f"{what}run: kairos engine stop; k3s server --cluster-reset {flags}; kairos engine start"


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
