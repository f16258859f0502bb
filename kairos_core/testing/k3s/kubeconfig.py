"""The admin's kubeconfig, as k3s writes it, and the little of kubectl that a test needs."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kairos_core.testing.k3s.authority import Pair

_TEMPLATE = """apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {authority}
    server: {server}
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
preferences: {{}}
users:
- name: default
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
"""


def format_kubeconfig(server: str, authority: str, client: Pair) -> str:
    """Return the kubeconfig text of an administrator."""
    return _TEMPLATE.format(
        server=server,
        authority=_encoded(authority),
        certificate=_encoded(client.certificate),
        key=_encoded(client.key),
    )


def kubectl(argv: Sequence[str], default: Path) -> int:
    """Run `get nodes [-o json|wide|name]`, `delete node NAME` or `get --raw PATH`; return the exit code."""
    words, options = _split(argv)
    file = Path(options.get("kubeconfig") or os.environ.get("KUBECONFIG") or default)
    try:
        if "raw" in options:
            print(_ask(file, "GET", options["raw"]))
        elif words[:2] in (["get", "nodes"], ["get", "node"]):
            _print_nodes(json.loads(_ask(file, "GET", "/api/v1/nodes")), options.get("output", ""))
        elif words[:2] == ["delete", "node"] and len(words) == 3:
            _ask(file, "DELETE", f"/api/v1/nodes/{words[2]}")
            print(f'node "{words[2]}" deleted')
        else:
            raise OSError("the stand-in k3s knows only: get nodes, delete node NAME, get --raw PATH")
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _split(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    words: list[str] = []
    options: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            words.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        options["output" if name == "o" else name] = value if equals or not rest else rest.pop(0)
    return words, options


def _ask(file: Path, method: str, path: str) -> str:
    import yaml  # imported here: servers and agents start without it

    document = yaml.safe_load(file.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    context = ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]))
    descriptor = os.memfd_create("client")  # load_cert_chain reads files only, and the key must touch no disk
    with os.fdopen(descriptor, "w") as memory:
        memory.write(_decoded(user["client-certificate-data"]) + _decoded(user["client-key-data"]))
        memory.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    parts = urlsplit(cluster["server"])
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=5, context=context)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        answer = response.read().decode()
    finally:
        connection.close()
    if response.status >= 400:
        raise OSError(f"{method} {path}: {response.status} {response.reason}")
    return answer


def _print_nodes(nodes: Mapping[str, Any], output: str) -> None:
    items = nodes["items"]
    if output == "json":
        print(json.dumps(nodes, indent=4))
        return
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
            ready,
            ",".join(roles) or "<none>",
            status["nodeInfo"]["kubeletVersion"],
        )
        rows.append((*row, *((status["addresses"][0]["address"],) if output == "wide" else ())))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
