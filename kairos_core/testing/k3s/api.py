"""What a server answers: Kubernetes' nodes and health, and k3s' own paths for those who join.

Open: /ping, /cacerts. With the administrator's certificate: /readyz and its kin, /version, /api/v1/nodes, and what k3s
has not, /stand-in/members. With the token, by HTTP basic authentication as in k3s (user `node` or `server`):
/v1-k3s/…. The token is that of the start, also when it has been rotated since, as k3s reads its password file once. In
the place of the certificates that k3s hands out to nodes and to etcd's members stand passwords that follow from the
cluster's authority: those who have joined need no token. All else is 401, as k3s has no anonymous access.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from kairos_core.testing.k3s import VERSION
from kairos_core.testing.k3s.log import log
from kairos_core.testing.k3s.store import Heartbeat, Store

_REJECTED = (
    "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match "
    "server node-passwd entry, try enabling a unique node name with the --with-node-id flag"
)


class Answer(Exception):
    """An answer other than 200."""

    def __init__(self, status: HTTPStatus, text: str = "") -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Api:
    """The answers of one server."""

    def __init__(self, store: Store, name: str, passwords: tuple[str, str], *, grace: float) -> None:
        """Answer as the server `name`; `passwords` are that of servers and that of agents."""
        self.store, self._name, self._grace = store, name, grace
        self.is_member, self.members_are_nodes = True, True
        self.rotate: Callable[[str], None] = lambda new: None  # raises Answer
        self._passwords = {"server": passwords[:1], "node": passwords}
        self.heard: dict[str, float] = {}

    def has_quorum(self) -> bool:
        """Say whether more than half of the servers answer, which etcd needs."""
        members = self.store.members()
        if not self.is_member:
            return False
        if self.store.kind != "etcd":
            return True
        recent = time.monotonic() - 3.0
        alive = sum(name == self._name or self.heard.get(name, recent) > recent for name in members)
        return alive * 2 > len(members)

    def is_admitted(self, user: str, login: str, node: str = "") -> bool:
        """Check an Authorization header against the token, or what was handed out to this node."""
        scheme, _, encoded = login.partition(" ")
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return False
        known = self._passwords[user] if name in (user, "server") else ()
        if user == "node" and name == "kubelet":
            known = (self.store.certificate(node),)
        elif name == "member":
            known = (self.store.certificate(""),)
        return scheme == "Basic" and any(hmac.compare_digest(password.encode(), p.encode()) for p in known)

    def health(self, path: str) -> str:
        """Answer /readyz, /livez and /healthz. Raises Answer."""
        if path != "/livez" and not self.has_quorum():
            raise Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "[-]etcd failed: reason withheld\nreadyz check failed\n")
        return "ok"

    def nodes(self) -> dict[str, Any]:
        """Return the NodeList. Raises Answer."""
        if not self.has_quorum():
            raise Answer(HTTPStatus.SERVICE_UNAVAILABLE, "etcdserver: no leader")
        items = [_node(name, node, ready) for name, node, ready in self.store.nodes(self._grace)]
        return {"kind": "NodeList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}

    def delete_node(self, name: str) -> None:
        """Delete a node; with it k3s removes its member of etcd (pkg/etcd/member_controller.go), and k0s does not."""
        self.store.forget(name)
        if self.members_are_nodes:
            self.store.remove_member(name)

    def add_member(self, name: str, url: str) -> None:
        """Take a server into the cluster; it counts as answering from now on."""
        self.heard[name] = time.monotonic()
        self.store.add_member(name, url)

    def beat(self, headers: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
        """Take an agent's heartbeat (header names in lower case); return all servers, and its certificate.

        Raises Answer.
        """
        if not self.has_quorum():
            raise Answer(HTTPStatus.SERVICE_UNAVAILABLE, "etcdserver: no leader")
        name, password = headers.get("k3s-node-name", ""), headers.get("k3s-node-password", "")
        try:
            labels = tuple(str(label) for label in body["labels"])
            beat = Heartbeat(name, password, str(body["ip"]), (), labels)
        except (KeyError, TypeError):
            raise Answer(HTTPStatus.BAD_REQUEST, "not a node") from None
        if not name or not password:
            raise Answer(HTTPStatus.BAD_REQUEST, "node name and password must be set")
        try:
            self.store.beat(beat, is_first=body.get("first") is True)
        except PermissionError:
            log("error", f"Node password validation failed for '{name}'")
            raise Answer(HTTPStatus.FORBIDDEN, _REJECTED) from None
        return {"servers": list(self.store.members().values()), "certificate": self.store.certificate(name)}


def _node(name: str, node: Mapping[str, Any], ready: bool) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    labels |= {f"node-role.kubernetes.io/{role}": "true" for role in node["roles"]}
    labels |= {key: value for key, _, value in (text.partition("=") for text in node["labels"])}
    condition = {
        "type": "Ready",
        "status": "True" if ready else "Unknown",
        "reason": "KubeletReady" if ready else "NodeStatusUnknown",
        "message": "the stand-in posts ready status" if ready else "Kubelet stopped posting node status.",
    }
    addresses = [{"type": "InternalIP", "address": node["ip"]}, {"type": "Hostname", "address": name}]
    information = {
        "kubeletVersion": VERSION,
        "osImage": "stand-in",
        "containerRuntimeVersion": "none (stand-in)",
    }
    return {
        "metadata": {"name": name, "labels": labels, "creationTimestamp": node["created"]},
        "spec": {"unschedulable": True} if node["unschedulable"] else {},
        "status": {"addresses": addresses, "conditions": [condition], "nodeInfo": information},
    }
