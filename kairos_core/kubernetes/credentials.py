"""Reads the administrator's kubeconfig that an engine writes, and rewrites its server for those elsewhere. Pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to reach an API server; `client` is our certificate with its key (PEM), which no repr shows."""

    host: str
    port: int
    authority: str
    client: str = field(repr=False)


def parse_kubeconfig(text: str) -> Credentials:
    """Return the credentials of the first cluster and user. Raises ValueError."""
    document = _document(text)
    try:
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        address = urlsplit(cluster["server"])
        client = _decoded(user["client-certificate-data"]) + _decoded(user["client-key-data"])
        return Credentials(
            address.hostname or "",
            address.port or 443,
            _decoded(cluster["certificate-authority-data"]),
            client,
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"it has no {error}") from None


def with_server(text: str, host: str) -> str:
    """Return the kubeconfig with another host in its server addresses; ports stay. Raises ValueError."""
    document = _document(text)
    for entry in document.get("clusters", ()):
        cluster = entry["cluster"]
        port = urlsplit(cluster["server"]).port or 443
        cluster["server"] = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return yaml.safe_dump(document, sort_keys=False)


def _document(text: str) -> dict[str, Any]:
    try:
        document = yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError:
        raise ValueError("it is not YAML") from None
    if not isinstance(document, dict):
        raise ValueError("it is empty")
    return document


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
