"""`k0s etcd member-list` and `k0s etcd leave`: the members of etcd, by the addresses at which they reach each other.

In k0s a member is called as its machine is, and here as its node is: all machines of a test may be one. The address
is that of the member's API server. Source: cmd/etcd of k0sproject/k0s, its order of checks and its wording.
"""

from __future__ import annotations

import json
import sys
from typing import Any
from urllib.parse import urlsplit

from kairos_core.testing.k0s.flags import Options, UsageError
from kairos_core.testing.k0s.places import Places, Refused, read_config
from kairos_core.testing.k3s.kubeconfig import Administrator

_PATH = "/stand-in/members"


def etcd(options: Options) -> int:
    """List the members, or take one out. Raises Refused."""
    places = Places.of(options)
    storage = read_config(places, options).get("storage", {})
    if storage.get("type", "etcd") != "etcd":
        raise Refused(f"wrong storage type: {storage['type']}")
    hosts = {name: urlsplit(url).netloc.rpartition(":")[0] for name, url in _members(places).items()}
    members = {name: f"https://{host}:2380" for name, host in hosts.items()}
    if options.words == ["member-list"] and "peer-address" not in options.given:
        print(json.dumps({"members": members}))
    elif options.words == ["leave"]:
        address = options.value("peer-address") or storage.get("etcd", {}).get("peerAddress", "")
        url = f"https://{f'[{address}]' if ':' in address else address}:2380"
        leaving = [name for name, peer in members.items() if peer == url]
        if not leaving:
            raise Refused(f"peer not found: {url}")
        _members(places, "DELETE", {"name": leaving[0]})
        print(f"Successfully deleted peerID={leaving[0]}", file=sys.stderr)
    else:
        raise UsageError(f'unknown command "{" ".join(options.words)}" for "k0s etcd"')
    return 0


def _members(places: Places, method: str = "GET", body: dict[str, str] | None = None) -> dict[str, str]:
    """Ask the controller of this machine. Raises Refused."""
    file = places.pki / "admin.conf"
    if not file.exists():
        raise Refused(f"can't list etcd cluster members: open {file}: no such file or directory")
    try:
        status, text = Administrator.read(file).ask(method, _PATH, body)
    except OSError as error:
        raise Refused(f"can't list etcd cluster members: context deadline exceeded: {error}") from None
    if status != 200:
        raise Refused(f"can't list etcd cluster members: {text.strip()}")
    answer: Any = json.loads(text)
    return dict(answer)
