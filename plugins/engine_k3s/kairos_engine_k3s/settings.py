"""The blocks `k3s` and `k3s-agent` of the configuration. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from kairos_core import After, Before, Role, ServiceSettings, Settings, setting
from kairos_engine_k3s.release import checked_channel, checked_place, checked_version


def _empty_is_unset(value: Any) -> Any:
    return "" if value is None else value.strip() if isinstance(value, str) else value


_Text = Annotated[str, Before(_empty_is_unset)]


class Install(Settings):
    """How k3s gets onto this machine when it is missing, and which version it must have."""

    source: Path | None = setting(
        default=None, description="a k3s binary on this machine, or a directory with one and perhaps with its images"
    )
    version: Annotated[_Text, After(checked_version)] = setting(
        default="", description="the version to download, and to replace another one with", examples=["v1.31.4+k3s1"]
    )
    channel: Annotated[_Text, After(checked_channel)] = setting(
        default="",
        description="download what this channel has when k3s is missing: stable, latest, or a minor version like v1.31",
    )
    url: Annotated[_Text, After(checked_place)] = setting(
        default="", description="https, http or file URL of a mirror of k3s' releases; unset: those at GitHub"
    )
    channel_url: Annotated[_Text, After(checked_place)] = setting(
        default="", description="URL of a mirror of k3s' channels; unset: those at update.k3s.io"
    )

    def __post_init__(self) -> None:
        if self.version and self.channel:
            raise ValueError(f"version {self.version} and channel {self.channel} exclude each other; set one of them")
        if self.channel_url and not self.is_download:
            raise ValueError("channel_url has no effect alone; set channel too, for example stable")

    @property
    def is_download(self) -> bool:
        """Whether k3s may be downloaded: only if the operator says what, or from where."""
        return bool(self.version or self.channel or self.url)


class ServerSettings(ServiceSettings):
    """The block `k3s`: for masters; `install` holds for workers too."""

    ROLE: ClassVar[Role | None] = Role.MASTER

    embedded_registry: bool = setting(default=False, description="share container images between the nodes")
    install: Install = setting(default_factory=Install)


class AgentSettings(ServiceSettings):
    """The block `k3s-agent`: for workers."""

    ROLE: ClassVar[Role | None] = Role.WORKER
