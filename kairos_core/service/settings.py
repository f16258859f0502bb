"""What an operator may say about a service: its environment and its arguments. Pure."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any, ClassVar

from kairos_core.model import Role
from kairos_core.settings import After, Before, SecretStr, Settings, setting

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


class ServiceSettings(Settings):
    """A block of the configuration about what an engine runs; engines derive theirs from it, one for each role.

    Every value of `env` is taken for a secret. Each item of `args` can be split into words as a shell does.
    """

    ROLE: ClassVar[Role | None] = None
    """The role that a machine has whose operator enables this block, where roles are not given out automatically."""

    enabled: bool | None = setting(default=None, description="false: ignore this block")
    env: Annotated[dict[str, Annotated[SecretStr, Before(_as_text)]], After(_named)] = setting(
        default_factory=dict, description="environment variables for Kubernetes; they win over ours"
    )
    args: tuple[Annotated[str, After(_splittable)], ...] = setting(
        default=(),
        repr=False,
        description="further arguments; a flag given here wins over ours, those that are lists add up",
    )
    replace_env: bool = setting(default=False, description="use `env` alone, none of our variables")
    replace_args: bool = setting(default=False, description="use `args` alone, none of our arguments")

    @property
    def in_force(self) -> ServiceSettings:
        """These settings; where the operator disabled the block, empty ones."""
        return ServiceSettings() if self.enabled is False else self
