"""The blocks `k0s` and `k0s-worker` of the configuration. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from kairos_core import After, Before, SecretStr, Settings, setting

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def _as_text(value: Any) -> Any:
    """Turn the scalars of YAML into the text that an environment holds."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _named(value: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, secret in value.items():
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is no name for a variable: letters, digits and _ only")
        if "\0" in secret.get_secret_value():
            raise ValueError(f"the value of {name} holds a zero byte, which no environment can hold")
    return value


def _splittable(value: str) -> str:
    try:
        shlex.split(value)
    except ValueError as error:
        raise ValueError(f"cannot be split into words: {str(error).lower()}") from None
    return value


class Block(Settings):
    """What both blocks have."""

    enabled: bool | None = setting(default=None, description="false: ignore this block")
    env: Annotated[dict[str, Annotated[SecretStr, Before(_as_text)]], After(_named)] = setting(
        default_factory=dict, description="environment variables for k0s; they win over ours"
    )
    args: tuple[Annotated[str, After(_splittable)], ...] = setting(
        default=(),
        repr=False,
        description="further arguments; a flag given here wins over ours, those that are lists add up",
    )
    replace_env: bool = setting(default=False, description="use `env` alone, none of our variables")
    replace_args: bool = setting(default=False, description="use `args` alone, none of our arguments")


class Install(Settings):
    """How k0s gets onto this machine when it is missing."""

    source: Path | None = setting(default=None, description="a k0s binary on this machine, or a directory with one")


class ControllerSettings(Block):
    """The block `k0s`: for masters; `install` holds for workers too."""

    config: Mapping[str, Any] = setting(
        default_factory=dict,
        repr=False,
        description="parts of k0s.yaml (a ClusterConfig), merged into ours key by key; the same on all masters",
    )
    install: Install = setting(default_factory=Install)


class WorkerSettings(Block):
    """The block `k0s-worker`: for workers."""
