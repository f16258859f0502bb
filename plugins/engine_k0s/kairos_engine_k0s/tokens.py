"""k0s' join tokens: two of them in the one text that Kairos hands on, and what is in each. Pure.

k0s has a token for controllers and another for workers; each is a kubeconfig, gzipped, in base64 (pkg/token of
k0sproject/k0s). Kairos knows one join token, a text that only engines read: here a JSON object of the two. A plain
token of k0s, as an operator may give, is taken for whatever role it is used with.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

import yaml

from kairos_core import EngineError, SecretStr, with_server

ROLES = ("controller", "worker")

MAX_TOKEN = 64 * 1024
"""Bytes of a token's kubeconfig; k0s' have 2,000. The attack: a small token that unpacks to gigabytes."""

_DAMAGED = "the join token is none of k0s: {}. Another engine runs the masters, or the token was damaged on its way."


def format_tokens(tokens: dict[str, str]) -> SecretStr:
    """Return the join token that carries k0s' tokens, by role."""
    return SecretStr(json.dumps({role: tokens[role] for role in ROLES if role in tokens}))


def token_for(role: str, joined: SecretStr) -> str:
    """Return k0s' token for a role from a join token. Raises EngineError."""
    text = joined.get_secret_value().strip()
    if not text.startswith("{"):
        return text
    try:
        return str(json.loads(text)[role])
    except (ValueError, KeyError):
        raise EngineError(_DAMAGED.format(f"it has no part for a {role}")) from None


def sample_token() -> SecretStr:
    """Return a token of the right form that joins nothing, for a plan that is only to be shown."""
    cluster = {"name": "k0s", "cluster": {"server": "https://master.invalid:6443"}}
    text = yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "clusters": [cluster]})
    return format_tokens(dict.fromkeys(ROLES, base64.b64encode(gzip.compress(text.encode())).decode()))


def with_host(token: str, host: str) -> str:
    """Return the token with another host to join at; its ports stay. Raises EngineError."""
    try:
        text = with_server(_kubeconfig(token), host)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(_DAMAGED.format(_why(error))) from None
    # No time stamp: equal tokens must give equal files.
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def authority_of(token: str) -> str:
    """Return the certificate authority (PEM) of the cluster that a token joins. Raises EngineError."""
    try:
        document: Any = yaml.load(_kubeconfig(token), yaml.CSafeLoader)
        return base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    except (ValueError, KeyError, IndexError, TypeError, yaml.YAMLError) as error:
        raise EngineError(_DAMAGED.format(_why(error))) from None


def _kubeconfig(token: str) -> str:
    """Unpack a token. Raises ValueError."""
    try:
        packed = base64.b64decode(token, validate=True)
        unpacking = zlib.decompressobj(wbits=31)  # 31: a gzip header. Source: zlib.h
        text = unpacking.decompress(packed, MAX_TOKEN)
    except zlib.error:
        raise ValueError("it is not gzipped") from None
    if not unpacking.eof:
        raise ValueError(f"it is cut off, or larger than {MAX_TOKEN} bytes")
    return text.decode()


def _why(error: Exception) -> str:
    """Say what is wrong with a token, and show nothing of it."""
    if isinstance(error, UnicodeDecodeError) or not isinstance(error, ValueError):
        return "what is in it is no kubeconfig"
    return str(error)
