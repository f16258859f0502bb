"""Which token k3s is to start with: the one that the network gives, or one that k3s has been given since. Pure.

`k3s token rotate` writes the new token into server/token of the server that it ran on, and encrypts the cluster's data
with it. From then on every server must be started with it, or refuses ("encrypted with different token"); those that
run accept joins with the old one alone until then. Nodes that have joined need it when they start again.
Source: k3s-io/k3s pkg/server/handlers/token.go, pkg/cluster/storage.go; docs.k3s.io, cli/token.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

_LENGTH = 64
"""Hexadecimal digits of the authority's SHA-256 in a full token: K10<hash>::<user>:<password>."""


@dataclass(frozen=True, slots=True, repr=False)
class Memory:
    """What the last plan gave, what was in k3s' own file then, what we wrote for the next start. All may be empty.

    It is shown nowhere: three of these are tokens.
    """

    given: str = ""
    found: str = ""
    written: str = ""
    server: str = ""

    def encode(self) -> str:
        """Return the text to keep. It holds tokens."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def decode(cls, text: str | None) -> Memory:
        """Read what `encode` wrote; a damaged text is no memory."""
        try:
            saved = json.loads(text or "{}")
            return cls(**{name: str(saved[name]) for name in ("given", "found", "written", "server")})
        except (ValueError, TypeError, KeyError):
            return cls()


def password(token: str) -> str:
    """Return the secret part of a token, full or short."""
    return token.partition("::")[2].partition(":")[2] if authority(token) else token


def authority(token: str) -> str:
    """Return the hash of the cluster's authority that stands in a full token; nothing for a short one."""
    digest, separator, _ = token.removeprefix("K10").partition("::")
    return digest if token.startswith("K10") and separator and len(digest) == _LENGTH else ""


def next_token(given: str, found: str, memory: Memory) -> str:
    """Return the token for the next start; `given` by the plan, `found` in k3s' file.

    What has moved since the last time wins, k3s' own file before the plan: that one is of now, and the plan of when
    somebody last told us. A file that has not moved may be older than the plan: the rotation was elsewhere.
    """
    if not given or not memory.written:
        return given
    if found and password(found) not in (password(memory.found), password(memory.written)):
        return found
    return memory.written if given == memory.given else given


def shared_token(found: str, memory: Memory) -> str:
    """Return the token that others are to join with; `found` in k3s' file.

    That of the next start where we were told a newer one: then every master tells it, should the one that has rotated
    be lost.
    """
    is_told = authority(memory.written) and memory.found == found and password(memory.written) != password(found)
    return memory.written if is_told else found
