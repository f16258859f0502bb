"""Takes secrets out of text that somebody else shall read. Pure.

Two nets: the secrets that this machine knows, wherever they stand, and what looks like one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from kairos_core.settings import SecretStr

INK = "***"
SHORTEST = 6
"""Characters of a secret that is looked for; shorter ones would blot out innocent words."""

_KEY_BLOCK = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_K3S_TOKEN = re.compile(r"\bK10[0-9a-f]{8,}::\S+")
_K0S_TOKEN = re.compile(r"\bH4sI[A-Za-z0-9+/=]{16,}")
_BOOTSTRAP_TOKEN = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b")
_LOGIN = re.compile(r"(://)[^\s/@]*:[^\s/@]*(@)")
_BEARER = re.compile(r"(?i)(bearer\s+)\S+")
_NAMED = re.compile(
    r"""(?ix)
    ( ["']? [\w.-]* (?: passw(?:or)?d | secret | token | private[_-]?key | psk | client-key-data
        | (?:access|secret)[_-]?key | vpn-auth )  ["']? \s* [:=] \s* )
    (?! \s ) ( "[^"]*" | '[^']*' | [^\s,;}\]]+ )
    """
)
_KUBECONFIG = re.compile(r"(client-(?:key|certificate)-data:\s*)\S+")


def blotted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without secrets: each is `***`, so that one still sees that something was there."""
    for secret in sorted({each for each in secrets if len(each) >= SHORTEST}, key=len, reverse=True):
        text = text.replace(secret, INK)
    for pattern in (_KEY_BLOCK, _K3S_TOKEN, _K0S_TOKEN, _BOOTSTRAP_TOKEN):
        text = pattern.sub(INK, text)
    for pattern in (_KUBECONFIG, _BEARER, _NAMED):
        text = pattern.sub(rf"\g<1>{INK}", text)
    return _LOGIN.sub(rf"\g<1>{INK}\g<2>", text)


def secrets_in(value: Any) -> set[str]:
    """Return what is secret in settings: every SecretStr, and all text in fields that no repr shows."""
    if isinstance(value, SecretStr):
        return {value.get_secret_value()}
    if isinstance(value, Mapping):
        return set().union(*map(secrets_in, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(secrets_in, value))
    if not dataclasses.is_dataclass(value):
        return set()
    fields = [(field.repr, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return set().union(*(secrets_in(each) if is_shown else _texts(each) for is_shown, each in fields))


def _texts(value: Any) -> set[str]:
    """Return every text anywhere in a value, secret or not."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, Mapping):
        return set().union(*map(_texts, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_texts, value))
    return secrets_in(value)
