"""Writes the file that wg-quick(8) and the WireGuard apps read, from the agent's answer about a guest."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

PLACEHOLDER = "PUT-THE-PRIVATE-KEY-HERE"


def generate_key() -> tuple[str, str]:
    """Return a new private key and its public key, as base64."""
    private = X25519PrivateKey.generate()
    return _text(private.private_bytes_raw()), _text(private.public_key().public_bytes_raw())


def format_file(answer: Mapping[str, Any], private_key: str | None = None) -> str:
    """Return the file. Without a private key it has a placeholder for it; it holds the pre-shared key always."""
    lines = [
        f"# {_comment(answer['name'])}: a peer of this Kairos network",
        "[Interface]",
        f"PrivateKey = {private_key or PLACEHOLDER}",
        f"Address = {', '.join(answer['addresses'])}",
        f"MTU = {answer['mtu']}",
    ]
    for node in answer["nodes"]:
        lines += [
            "",
            f"# {_comment(node['name'])}",
            "[Peer]",
            f"PublicKey = {node['key']}",
            f"PresharedKey = {answer['psk']}",
            f"Endpoint = {node['endpoint']}",
            f"AllowedIPs = {', '.join(node['allowed'])}",
        ]
        lines += [f"PersistentKeepalive = {answer['keepalive']}"] if answer["keepalive"] else []
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """Return a name on one line: a node could call itself `x\\nPostUp = …`, which wg-quick would run as root."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()
