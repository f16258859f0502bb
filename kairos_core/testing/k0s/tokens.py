"""Join tokens as k0s makes them: a kubeconfig, gzipped, in base64; one user for controllers, another for workers."""

from __future__ import annotations

import base64
import binascii
import gzip
import secrets
import sys
import zlib
from dataclasses import dataclass

from kairos_core.testing.k0s.flags import Options
from kairos_core.testing.k0s.places import Places, Refused, read_config

USERS = {"controller": "controller-bootstrap", "worker": "kubelet-bootstrap"}

_TEMPLATE = """apiVersion: v1
clusters:
- cluster:
    server: {server}
    certificate-authority-data: {authority}
  name: k0s
contexts:
- context:
    cluster: k0s
    user: {user}
  name: k0s
current-context: k0s
kind: Config
preferences: {{}}
users:
- name: {user}
  user:
    token: {token}
"""


@dataclass(frozen=True, slots=True)
class Token:
    """What is in a token: where to join, whom to believe, and the secret of the stand-in behind."""

    server: str
    authority: str
    secret: str


def open_token(text: str, role: str) -> Token:
    """Return what is in a token for a role. Raises Refused."""
    import yaml

    try:
        document = yaml.safe_load(gzip.decompress(base64.b64decode(text)))
    except (OSError, EOFError, zlib.error, binascii.Error, yaml.YAMLError) as error:
        raise Refused(f"failed to decode join token: {error}") from None
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]
    if user["name"] != USERS[role]:
        raise Refused(f"wrong token type {user['name']}, expected type: {USERS[role]}")
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return Token(cluster["server"], authority, user["user"]["token"].partition("#")[0])


def create_token(options: Options) -> int:
    """Print a new token of a running controller; each is another text, as k0s' are."""
    places, role = Places.of(options), options.value("role", "worker")
    if role not in USERS:
        raise Refused(f'unsupported role "{role}"; supported roles are "controller" and "worker"')
    try:
        secret = (places.inside / "server/node-token").read_text().strip()
        authority = (places.pki / "ca.crt").read_text()
    except FileNotFoundError as error:
        raise Refused(f"failed to read cluster CA from {error.filename}; is the control plane initialized?") from None
    text = _TEMPLATE.format(
        server=api_url(read_config(places, options)),
        authority=base64.b64encode(authority.encode()).decode(),
        user=USERS[role],
        token=f"'{secret}#{secrets.token_hex(4)}'",
    )
    sys.stdout.write(base64.b64encode(gzip.compress(text.encode())).decode() + "\n")
    return 0


def api_url(spec: dict[str, dict[str, object]]) -> str:
    """Return where the API server of a configuration is reached."""
    api = spec.get("api", {})
    host = str(api.get("externalAddress") or api.get("address") or "127.0.0.1")
    return f"https://{f'[{host}]' if ':' in host else host}:{api.get('port', 6443)}"
