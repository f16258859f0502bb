"""Join tokens as masters share them, and which of them is the newest. Pure.

An operator may give a running cluster another join token (`k3s token rotate`), on any master. The others hold the old
one on their disks until they are started again, and no clock tells which of two is older. So tokens are numbered:
a master whose own token has become one that nobody had numbers it one higher than all that it sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kairos_core.model import PeerId
from kairos_core.settings import SecretStr

# Nine digits: a master that lies about its number can be outnumbered by a new generation only, as with its token.
_NUMBERED = re.compile(r"([1-9]\d{0,8})\n(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A join token, and how often the cluster's had been rotated when it became the one: 0 for the first."""

    text: SecretStr
    rotation: int = 0

    def encode(self) -> str:
        """Return the text that is sealed: the token alone, or below the number of its rotation."""
        text = self.text.get_secret_value()
        return f"{self.rotation}\n{text}" if self.rotation else text

    @classmethod
    def decode(cls, sealed: str) -> JoinToken:
        """Read what `encode` wrote."""
        match = _NUMBERED.fullmatch(sealed)
        return cls(SecretStr(match[2]), int(match[1])) if match else cls(SecretStr(sealed))


def own_token(text: SecretStr, before: JoinToken | None, others: Iterable[JoinToken]) -> JoinToken:
    """Number the token that a master's engine reports; `before` is what it shared last, `others` what others share.

    A master that never shared one numbers nothing: its disk may be an old one.
    """
    others = tuple(others)
    same = max((other.rotation for other in others if other.text == text), default=-1)
    if before is None or before.text == text:
        return JoinToken(text, max(same, before.rotation if before else 0))
    if same >= before.rotation:
        return JoinToken(text, same)
    return JoinToken(text, max(before.rotation, *(other.rotation for other in others), 0) + 1)


def newest(tokens: Mapping[PeerId, JoinToken], me: PeerId, init: PeerId) -> JoinToken | None:
    """Return the token of the last rotation; among equals another's before ours, and the initialiser's first."""
    if not tokens:
        return None
    return tokens[min(tokens, key=lambda peer: (-tokens[peer].rotation, peer == me, peer != init, peer))]
