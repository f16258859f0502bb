"""The little of kubectl that a test needs: get nodes, drain, delete; it takes the flags that it plays, and no other.

There are no pods, so drain plays some: each node has one of a DaemonSet, one with an emptyDir and one that nobody
manages, and a node with the label `stand-in/budget=NAME` one more, NAME, that its disruption budget lets nobody evict.
On a node that is not ready no pod ever ends. What kubectl would try until its timeout fails here at once.

Source: kubernetes.io, reference/kubectl/generated; k8s.io/kubectl, pkg/drain/filters.go and pkg/cmd/drain/drain.go.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kairos_core.testing.k3s.kubeconfig import Administrator

BUDGET = "stand-in/budget"
"""The label of a node with a pod that nobody may evict; its value is the pod's name."""

NODES = ("node", "nodes", "no")

_EVERYWHERE = {"kubeconfig": "value", "request-timeout": "time"}
_FLAGS = {
    "get": {"output": "value", "raw": "value", "ignore-not-found": "switch"},
    "delete": {"ignore-not-found": "switch", "wait": "switch", "timeout": "time", "now": "switch"},
    "drain": {
        **dict.fromkeys(("ignore-daemonsets", "delete-emptydir-data", "force", "disable-eviction"), "switch"),
        **dict.fromkeys(("grace-period", "skip-wait-for-delete-timeout"), "number"),
        "timeout": "time",
    },
}
_KINDS = {"value": r"(?s).*", "switch": "true|false", "time": r"(\d+(ms|s|m|h))+|0", "number": r"-?\d+"}


class KubectlError(Exception):
    """What kubectl says on its standard error before it ends with 1."""


@dataclass
class _Line:
    """A command line: the words, and the flags by name."""

    words: list[str] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)

    def is_on(self, name: str) -> bool:
        return self.flags.get(name) == "true"


def kubectl(argv: Sequence[str], default: Path, *, others: Sequence[str] = ()) -> int:
    """Run a command line and return the exit code; `others` are kinds of objects of which there are none."""
    try:
        line = parse(argv)
        file = Path(line.flags.get("kubeconfig") or os.environ.get("KUBECONFIG") or default)
        _run(line, Cluster(Administrator.read(file)), others)
    except KubectlError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Unable to connect to the server: {error}", file=sys.stderr)
        return 1
    return 0


def parse(argv: Sequence[str]) -> _Line:
    """Read a command line as spf13/pflag does. Raises KubectlError."""
    line, rest = _Line(), list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            line.words.append(word)
            continue
        if word == "--":
            line.words += rest
            break
        name, equals, value = re.sub("^-o=?(.*)", r"--output=\1", word).lstrip("-").partition("=")
        known = _EVERYWHERE | _FLAGS.get((line.words or [""])[0], {})
        if name not in known:
            raise KubectlError(f"error: unknown flag: --{name}\nSee 'kubectl --help' for usage.")
        if not value and known[name] != "switch" and rest:
            value = rest.pop(0)
        value = value if equals or known[name] != "switch" else "true"
        if not re.fullmatch(_KINDS[known[name]], value):
            raise KubectlError(f'error: invalid argument "{value}" for "--{name}" flag')
        line.flags[name] = value
    return line


class Cluster:
    """The API server, asked as the administrator."""

    def __init__(self, administrator: Administrator) -> None:
        self._administrator = administrator

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> str:
        """Return the text of an answer. Raises KubectlError, or OSError."""
        status, text = self._administrator.ask(method, path, body)
        if status == 404 and path.startswith("/api/v1/nodes/"):
            raise KubectlError(f'Error from server (NotFound): nodes "{path.rpartition("/")[2]}" not found')
        if status >= 400:
            raise KubectlError(f"Error from server: {text.strip()} ({method} {path}: {status})")
        return text

    def node(self, name: str) -> dict[str, Any]:
        """Return a node. Raises KubectlError, or OSError."""
        found: dict[str, Any] = json.loads(self.ask("GET", f"/api/v1/nodes/{name}"))
        return found


def _run(line: _Line, cluster: Cluster, others: Sequence[str]) -> None:
    match line.words:
        case ["get"] if "raw" in line.flags:
            print(cluster.ask("GET", line.flags["raw"]))
        case ["get", kind] if kind in NODES:
            _print_nodes(json.loads(cluster.ask("GET", "/api/v1/nodes")), line.flags.get("output", ""))
        case ["get", kind, name] if kind in NODES:
            with _Tolerance(line):
                node = cluster.node(name)
                is_whole = line.flags.get("output") == "json"
                _print_nodes(node if is_whole else {"items": [node]}, line.flags.get("output", ""))
        case ["delete", kind, name] if kind in NODES:
            with _Tolerance(line):
                cluster.ask("DELETE", f"/api/v1/nodes/{name}")
                print(f'node "{name}" deleted')
        case ["delete", kind, name] if kind in others:
            with _Tolerance(line):
                raise KubectlError(f'Error from server (NotFound): {kind} "{name}" not found')
        case ["drain", name]:
            _drain(line, cluster, name)
        case ["get" | "delete", kind, *_] if kind not in NODES:
            raise KubectlError(f'error: the server doesn\'t have a resource type "{kind}"')
        case _:
            raise KubectlError("error: this stand-in knows: get nodes, delete node NAME, drain NAME, get --raw PATH")


class _Tolerance:
    """With --ignore-not-found it is no error that an object is not there."""

    def __init__(self, line: _Line) -> None:
        self._is_on = line.is_on("ignore-not-found")

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> bool:
        return self._is_on and isinstance(error, KubectlError) and "(NotFound)" in str(error)


def _drain(line: _Line, cluster: Cluster, name: str) -> None:
    node = cluster.node(name)
    if node["spec"].get("unschedulable"):
        print(f"node/{name} already cordoned")
    else:
        cluster.ask("PATCH", f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True}})
        print(f"node/{name} cordoned")
    held = _what_holds(line, node)
    if held:
        raise KubectlError(
            f'error: unable to drain node "{name}" due to error: {held}, continuing command...\n'
            f"There are pending nodes to be drained:\n {name}\nerror: {held}"
        )
    print(f"node/{name} drained")


def _what_holds(line: _Line, node: Mapping[str, Any]) -> str:
    """Return why a node cannot be drained; nothing when it can. What kubectl says meanwhile is printed."""
    if not line.is_on("ignore-daemonsets"):
        return "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): kube-system/svclb"
    if not line.is_on("delete-emptydir-data"):
        return "cannot delete Pods with local storage (use --delete-emptydir-data to override): kube-system/metrics"
    if not line.is_on("force"):
        return "cannot delete Pods that declare no controller (use --force to override): default/shell"
    budget, time = node["metadata"]["labels"].get(BUDGET), line.flags.get("timeout", "0s")
    if budget and not line.is_on("disable-eviction"):
        evicting = f'error when evicting pods/"{budget}" -n "default"'
        why = "Cannot evict pod as it would violate the pod's disruption budget."
        print(f"{evicting} (will retry after 5s): {why}", file=sys.stderr)
        return f"{evicting}: global timeout reached: {time}"
    is_ready = node["status"]["conditions"][0]["status"] == "True"
    if not is_ready and int(line.flags.get("skip-wait-for-delete-timeout", "0")) <= 0:
        waiting = 'error when waiting for pod "metrics" in namespace "kube-system" to terminate'
        return f"{waiting}: global timeout reached: {time}"
    return ""


def _print_nodes(nodes: Mapping[str, Any], output: str) -> None:
    if output == "json":
        print(json.dumps(nodes, indent=4))
        return
    items = nodes["items"]
    if output == "name":
        print("\n".join(f"node/{item['metadata']['name']}" for item in items))
        return
    rows = [("NAME", "STATUS", "ROLES", "VERSION", *(("INTERNAL-IP",) if output == "wide" else ()))]
    for item in items:
        status = item["status"]
        roles = [label.split("/")[1] for label in item["metadata"]["labels"] if "node-role" in label]
        ready = "Ready" if status["conditions"][0]["status"] == "True" else "NotReady"
        row = (
            item["metadata"]["name"],
            ready + (",SchedulingDisabled" if item["spec"].get("unschedulable") else ""),
            ",".join(roles) or "<none>",
            status["nodeInfo"]["kubeletVersion"],
        )
        rows.append((*row, *((status["addresses"][0]["address"],) if output == "wide" else ())))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
