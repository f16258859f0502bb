"""Which files of the configuration show a secret to every user of the machine: one rule for whoever warns of it.

A value counts as a secret by its name or its form, as the bundle for support judges what it leaves out (`blotting`):
not all that no repr shows, since of environment and arguments most are harmless.
"""

from __future__ import annotations

import dataclasses
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kairos_core.config import Config
from kairos_core.model import Finding, Verdict
from kairos_core.runtime.blotting import SHORTEST, blotted
from kairos_core.settings import SecretStr

Document = tuple[str, str]
"""The name of a file and its text."""

_AT_MOST = 4
"""Names of settings that are shown for one file; more make the sentence longer, and nobody wiser."""


def public_documents(documents: Iterable[Document]) -> list[Document]:
    """Return the files that every user may read. Directories above them that nobody may enter are not counted on."""
    return [(name, text) for name, text in documents if _is_public(Path(name))]


def secrecy(public: Iterable[Document], config: Config) -> Finding:
    """Say which of the files that every user may read hold secrets of this configuration, and which. Pure."""
    secrets = secret_settings(config)
    held = {name: _held(text, secrets) for name, text in public}
    exposed = sorted(name for name, settings in held.items() if settings)
    if not exposed:
        return Finding("secrecy", Verdict.OK, "no other user can read a secret of the configuration")
    message = "; ".join(f"{name} holds {_listed(held[name])}, and every user can read it" for name in exposed)
    return Finding("secrecy", Verdict.WRONG, message, f"chmod 600 {shlex.join(exposed)}")


def secret_settings(config: Config) -> dict[str, str]:
    """Return where each secret of a configuration is set, by the secret. Pure."""
    blocks = {"p2p": config.p2p, "kubevip": config.kubevip, "k3s": config.k3s, "k3s-agent": config.k3s_agent}
    found: dict[str, str] = {}
    for name, value in (*blocks.items(), *config.settings.items()):
        for setting, text in _texts(name, value):
            if len(text) >= SHORTEST and _is_secret(setting, text):
                found.setdefault(text, setting)
    return found


def _held(text: str, secrets: Mapping[str, str]) -> list[str]:
    """Return which secrets a text holds, each in one line or folded as YAML may."""
    whole = "".join(text.split())
    return sorted({setting for secret, setting in secrets.items() if "".join(secret.split()) in whole})


def _listed(settings: Sequence[str]) -> str:
    shown = ", ".join(settings[:_AT_MOST])
    return f"{shown} and {len(settings) - _AT_MOST} further secrets" if len(settings) > _AT_MOST else shown


def _is_secret(setting: str, text: str) -> bool:
    return blotted(f"{setting}: {text}") != f"{setting}: {text}"


def _texts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield each text in a value, with the name of its setting ("p2p.network_token", "k3s.args --token")."""
    if isinstance(value, SecretStr):
        yield name, value.get_secret_value()
    elif isinstance(value, str):
        yield name, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(f"{name}.{key}", each)
    elif isinstance(value, list | tuple):
        yield from _arguments(name, [each for each in value if isinstance(each, str)])
        for each in value:
            yield from _texts(name, each)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _texts(f"{name}.{field.name}", getattr(value, field.name))


def _arguments(name: str, items: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the value of each flag: `--flag=value`, and `--flag value` in one item or two."""
    words = [word for item in items for word in item.split()]
    for word, following in zip(words, [*words, ""][1:], strict=True):
        flag, equals, value = word.partition("=")
        if flag.startswith("-"):
            yield f"{name} {flag}", value if equals else following


def _is_public(path: Path) -> bool:
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o004)
    except OSError:
        return False
