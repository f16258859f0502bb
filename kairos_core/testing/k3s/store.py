"""What the servers of one cluster know: nodes, members, token; in a file, and copied between servers.

Two servers' copies merge node by node: the one of a later life wins, and in one life that with more heartbeats. A
node's life ends when it is deleted; only a process that starts begins the next, as a kubelet registers its node once
and then only updates it (kubernetes#71398). No clock is compared between machines. With an external datastore
(`sqlite://PATH`, a file that the servers share) the file itself is the one copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kairos_core.testing.k3s.authority import write_private
from kairos_core.testing.k3s.log import Fatal


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a node says of itself, about once a second."""

    name: str
    password: str
    ip: str
    roles: tuple[str, ...]
    labels: tuple[str, ...] = ()


class Store:
    """The state of a cluster as one server holds it. Safe to call from several threads."""

    def __init__(self, path: Path, *, shared: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self.shared, self._clock = path, shared, clock
        self._lock = threading.RLock()
        self._advanced: dict[str, float] = {}
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._state = self._read()
        self._ages = {name: _age(node) for name, node in self._state["nodes"].items()}

    @property
    def is_new(self) -> bool:
        """Say whether no cluster has been started on this state yet."""
        return "secrets" not in self._state

    def initialise(self, kind: str, token: str, secrets: Mapping[str, str]) -> Mapping[str, str]:
        """Start a cluster with these secrets (by file name), or return those of the one that is there.

        Raises Fatal when it was started with another token, as k3s does whose secrets are encrypted with it.
        """
        with self._transaction() as state:
            if "secrets" not in state:
                state |= {"kind": kind, "secrets": dict(secrets), "token": _digest(token)}
            if not hmac.compare_digest(state["token"], _digest(token)):
                raise Fatal(
                    "starting kubernetes: preparing server: bootstrap data already found and encrypted "
                    "with different token"
                )
            if kind == "etcd":  # k3s migrates a single SQLite server that is started with --cluster-init
                state["kind"] = kind
            return dict(state["secrets"])

    def rotate(self, old: str, new: str) -> None:
        """Encrypt the cluster's secrets with another token. Raises ValueError when they are not with the old one."""
        with self._transaction() as state:
            if not hmac.compare_digest(state["token"], _digest(old)):
                raise ValueError("bootstrap data already found and encrypted with different token")
            state |= {"token": _digest(new), "rotations": state.get("rotations", 0) + 1}

    def certificate(self, node: str) -> str:
        """Return what stands for the certificate of a node; of a server among etcd's members without a name."""
        key = self._state["secrets"]["server-ca.key"].encode()
        return hmac.new(key, node.encode(), "sha256").hexdigest()

    @property
    def kind(self) -> str:
        """Return how state is kept: etcd (copied between servers), sqlite (one server), or external."""
        return str(self._state.get("kind", ""))

    def beat(self, heartbeat: Heartbeat, *, is_first: bool) -> None:
        """Take a heartbeat; that of a deleted node counts only if it is the first of its process.

        Raises PermissionError when the name belongs to another machine.
        """
        with self._transaction() as state:
            old = state["nodes"].get(heartbeat.name, {})
            if old and "ip" not in old and not is_first:
                return
            digest = _digest(heartbeat.password)
            if old.get("password", digest) != digest:
                raise PermissionError(heartbeat.name)
            state["nodes"][heartbeat.name] = {
                "ip": heartbeat.ip,
                "roles": list(heartbeat.roles),
                "labels": list(heartbeat.labels),
                "password": digest,
                "created": old.get("created") or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "life": old.get("life", 0),
                "beats": old.get("beats", 0) + 1,
            }
            self._advanced[heartbeat.name] = self._clock()

    def cordon(self, name: str) -> None:
        """Let no pod start on a node any more, for as long as it lives."""
        with self._transaction() as state:
            state["cordons"][name] = state["nodes"].get(name, {}).get("life", 0)

    def forget(self, name: str) -> None:
        """Delete a node and its password."""
        with self._transaction() as state:
            node = state["nodes"].get(name, {})
            if "ip" in node:
                state["nodes"][name] = {"life": node["life"] + 1, "beats": 0}

    def add_member(self, name: str, url: str) -> None:
        """Take a server into the cluster."""
        with self._transaction() as state:
            old = state["members"].get(name, {})
            if old.get("url") != url:
                state["members"][name] = {"url": url, "change": old.get("change", 0) + 1}

    def remove_member(self, name: str) -> None:
        """Take a server out of the cluster for good."""
        with self._transaction() as state:
            old = state["members"].get(name, {})
            if "url" in old:
                state["members"][name] = {"change": old["change"] + 1}

    def reset_members(self, name: str, url: str) -> None:
        """Make a server the only member."""
        with self._transaction() as state:
            for other, member in state["members"].items():
                state["members"][other] = {"change": member["change"] + 1}
            mine = state["members"].get(name, {})
            state["members"][name] = {"url": url, "change": mine.get("change", 0) + 1}

    def members(self) -> dict[str, str]:
        """Return the servers: name to URL."""
        with self._lock:
            return {name: member["url"] for name, member in self._state["members"].items() if "url" in member}

    def was_removed(self, name: str) -> bool:
        """Say whether a server was taken out of the cluster, and is not in it again."""
        with self._lock:
            return "url" not in self._state["members"].get(name, {"url": ""})

    def copy(self) -> dict[str, Any]:
        """Return all state, for another server."""
        with self._lock:
            copied: dict[str, Any] = json.loads(json.dumps(self._state))
            return copied

    def merge(self, theirs: Mapping[str, Any]) -> None:
        """Take over what another server knows better."""
        with self._transaction() as state:
            for key in ("kind", "secrets", "token"):
                state.setdefault(key, theirs.get(key))
            if theirs.get("rotations", 0) > state.get("rotations", 0):
                state |= {key: theirs[key] for key in ("token", "rotations")}
            for name, member in theirs["members"].items():
                if member["change"] > state["members"].get(name, {}).get("change", 0):
                    state["members"][name] = member
            for name, node in theirs["nodes"].items():
                if _age(node) > _age(state["nodes"].get(name, {})):
                    state["nodes"][name] = node
            for name, life in theirs["cordons"].items():
                state["cordons"][name] = max(life, state["cordons"].get(name, life))

    def nodes(self, grace: float) -> list[tuple[str, Mapping[str, Any], bool]]:
        """Return the nodes: name, record, and whether it was heard of within `grace` seconds."""
        with self._transaction() as state:
            now = self._clock()
            present = sorted(
                (name, {**node, "unschedulable": state["cordons"].get(name) == node["life"]})
                for name, node in state["nodes"].items()
                if "ip" in node
            )
            return [(name, node, now - self._advanced.get(name, -grace) <= grace) for name, node in present]

    @contextmanager
    def _transaction(self) -> Iterator[dict[str, Any]]:
        """Lend the state for a change; what must outlast a restart is written at the end.

        A shared file is read first, and locked against the other servers meanwhile.
        """
        with self._lock, self._file_lock():
            if self.shared:
                self._state = self._read()
            before = self._lasting()
            yield self._state
            for name, node in self._state["nodes"].items():
                if _age(node) > self._ages.get(name, _age(node)):
                    self._advanced[name] = self._clock()
                self._ages[name] = _age(node)
            if self._lasting() != before:
                write_private(self._path, json.dumps(self._state))

    def _lasting(self) -> str:
        """Return what to compare before writing: no count of heartbeats, unless other servers read it."""
        nodes = self._state["nodes"]
        if not self.shared:
            nodes = {name: {**node, "beats": 0} for name, node in nodes.items()}
        return json.dumps({**self._state, "nodes": nodes})

    def _read(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"nodes": {}, "members": {}, "cordons": {}}
        try:
            return {**empty, **json.loads(self._path.read_text())}
        except FileNotFoundError:
            return empty

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        if not self.shared:
            yield
            return
        with self._path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _age(node: Mapping[str, Any]) -> tuple[int, int]:
    """Return which of two records of a node is the later one."""
    return node.get("life", -1), node.get("beats", 0)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
