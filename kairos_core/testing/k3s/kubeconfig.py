"""The administrator's kubeconfig, as k3s writes it, and what one can ask with it."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Administrator:
    """What is in an administrator's kubeconfig: where the API server is, whom to believe, and as whom to ask."""

    server: str
    authority: str
    client: str = field(repr=False)

    @classmethod
    def read(cls, file: Path) -> Administrator:
        """Read a kubeconfig. Raises OSError."""
        import yaml  # imported here: servers and agents start without it

        document = yaml.safe_load(file.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        client = _decoded(user["client-certificate-data"]) + _decoded(user["client-key-data"])
        return cls(cluster["server"], _decoded(cluster["certificate-authority-data"]), client)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, str]:
        """Return the status and the text of the answer. Raises OSError."""
        context = ssl.create_default_context(cadata=self.authority)
        descriptor = os.memfd_create("client")  # load_cert_chain reads files only, and the key must touch no disk
        with os.fdopen(descriptor, "w") as memory:
            memory.write(self.client)
            memory.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        parts = urlsplit(self.server)
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=5, context=context)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode()
