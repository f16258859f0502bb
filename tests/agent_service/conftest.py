"""A machine without an init system: its root is a directory, and its init system is a flag."""

from __future__ import annotations

import pytest

from kairos_core.agent_service.init import SystemdInit


class FakeInit(SystemdInit):
    """systemd without systemctl: it remembers what it was told."""

    def __init__(self) -> None:
        self.running = False
        self.told: list[str] = []

    def reload(self) -> None:
        self.told.append("reload")

    def is_running(self) -> bool:
        return self.running

    def start(self, *, afresh: bool) -> None:
        self.told.append("restart" if afresh else "start")
        self.running = True

    def stop(self) -> None:
        self.told.append("stop")
        self.running = False


@pytest.fixture
def init() -> FakeInit:
    return FakeInit()
