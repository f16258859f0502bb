"""What a service is made of, as values: the files to write, the program's arguments, where things are kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kairos_core.settings import SecretStr


@dataclass(frozen=True, slots=True)
class File:
    """A file to write: absolute path, content (never shown), mode."""

    path: str
    content: str = field(repr=False)
    mode: int = 0o600


@dataclass(frozen=True, slots=True)
class Service:
    """What a supervisor runs; the path of the program is not part of it.

    `title`, `documentation` (a URL) and `block` (of the configuration, where the arguments come from) are for people
    who read the files. A service that `notifies` tells systemd when it is ready (sd_notify(3)).
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, SecretStr]
    title: str = "Kubernetes"
    documentation: str = "https://kubernetes.io"
    block: str = "engine's"
    notifies: bool = False


@dataclass(frozen=True, slots=True)
class Home:
    """Where an engine's files are: `state` is our own directory, `settings` that of the program, for environments."""

    state: str
    settings: str
