"""The blocks `k0s` and `k0s-worker` of the configuration. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from kairos_core import Role, ServiceSettings, Settings, setting


class Install(Settings):
    """How k0s gets onto this machine when it is missing."""

    source: Path | None = setting(default=None, description="a k0s binary on this machine, or a directory with one")


class ControllerSettings(ServiceSettings):
    """The block `k0s`: for masters; `install` holds for workers too."""

    ROLE: ClassVar[Role | None] = Role.MASTER

    config: Mapping[str, Any] = setting(
        default_factory=dict,
        repr=False,
        description="parts of k0s.yaml (a ClusterConfig), merged into ours key by key; the same on all masters",
    )
    install: Install = setting(default_factory=Install)


class WorkerSettings(ServiceSettings):
    """The block `k0s-worker`: for workers."""

    ROLE: ClassVar[Role | None] = Role.WORKER
