"""The environment file of the service: one form that systemd, a shell and we read alike. Pure.

Every value stands in double quotes with `\\ " $ and the backquote escaped by a backslash, which is the common
ground of POSIX shell quoting (2.2.3) and systemd.exec(5) EnvironmentFile=.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kairos_core.settings import SecretStr

_SPECIAL = re.compile(r'([\\"$`])')
_ENTRY = re.compile(r'^([A-Za-z_][A-Za-z0-9_]*)="((?:[^\\"]|\\.)*)"$', re.MULTILINE | re.DOTALL)


def format_environment(environment: Mapping[str, SecretStr]) -> str:
    """Return the text of the file; it holds secrets in clear, so its mode must be 0600."""
    lines = ["# Written by Kairos; changes are overwritten."]
    for name, secret in environment.items():
        quoted = _SPECIAL.sub(r"\\\1", secret.get_secret_value())
        lines.append(f'{name}="{quoted}"')
    return "\n".join(lines) + "\n"


def parse_environment(text: str) -> dict[str, str]:
    """Read what `format_environment` wrote."""
    return {name: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, value in _ENTRY.findall(text)}
