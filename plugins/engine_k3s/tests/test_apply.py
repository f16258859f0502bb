"""What `apply` and `remove` do with the program and its images. The init system is a fake that notes its orders."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest
from kairos_engine_k3s import K3sEngine, ServerSettings
from kairos_engine_k3s.launch import HOME
from kairos_engine_k3s.program import PROGRAM

from kairos_core import Attachment, Disk, EngineError, NodePlan, Role, SecretStr
from kairos_core.testing.supervisors import FakeSupervisor

OLD, NEW = "v1.30.8+k3s1", "v1.31.4+k3s1"
IMAGES = "/var/lib/rancher/k3s/agent/images/k3s-airgap-images-amd64.tar.zst"
PLAN = NodePlan(Role.CLUSTER_INIT, "a", Attachment(node_ip="127.0.0.1"), cluster_token=SecretStr("the-token"))


class Watchful(FakeSupervisor):
    """Notes too whether the images are there when it starts k3s afresh."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._images = root / IMAGES.lstrip("/")

    async def restart(self, service: str) -> None:
        await super().restart(f"{service} with images" if self._images.exists() else service)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An air-gap directory for this machine, which is said to be an x86_64."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def release(source: Path, version: str) -> None:
    (source / "k3s").write_text(f"#!/bin/sh\necho 'k3s version {version} (a562d090)'\n")


def engine(tmp_path: Path, **install: Any) -> tuple[K3sEngine, Watchful]:
    supervisor = Watchful(tmp_path / "root")
    settings = ServerSettings.checked({"install": install})
    return K3sEngine(settings, root=tmp_path / "root", supervisor=supervisor), supervisor


async def test_a_k3s_of_another_version_is_replaced_and_started_again(source: Path, tmp_path: Path) -> None:
    release(source, OLD)
    before, _ = engine(tmp_path, source=source, version=OLD)
    await before.apply(PLAN)
    again, supervisor = engine(tmp_path, source=source, version=OLD)
    await again.apply(PLAN)
    assert supervisor.orders() == ["start k3s"]
    release(source, NEW)
    after, supervisor = engine(tmp_path, source=source, version=NEW)
    await after.apply(PLAN)
    assert supervisor.orders() == ["restart k3s"]
    assert (await after.installed() or "").startswith(NEW)


async def test_a_replacement_that_failed_leaves_what_runs_alone(source: Path, tmp_path: Path) -> None:
    release(source, OLD)
    before, _ = engine(tmp_path, source=source, version=OLD)
    await before.apply(PLAN)
    after, supervisor = engine(tmp_path, source=source, version=NEW)
    with pytest.raises(EngineError, match=r"is k3s v1\.30\.8.*and not v1\.31"):
        await after.apply(PLAN)
    assert supervisor.orders() == []
    assert (await after.installed() or "").startswith(OLD)


async def test_images_are_there_before_k3s_starts_and_go_with_the_engine(source: Path, tmp_path: Path) -> None:
    release(source, NEW)
    (source / "k3s-airgap-images-amd64.tar.zst").write_bytes(b"images")
    k3s, supervisor = engine(tmp_path, source=source)
    await k3s.apply(PLAN)
    assert supervisor.orders() == ["restart k3s with images"]
    await k3s.remove()
    left = {str(path.relative_to(tmp_path / "root")) for path in (tmp_path / "root").rglob("*") if path.is_file()}
    assert left == set()


async def test_a_k3s_of_the_operator_that_was_replaced_comes_back_with_removal(source: Path, tmp_path: Path) -> None:
    theirs = Disk(HOME, tmp_path / "root").path(PROGRAM)
    theirs.parent.mkdir(parents=True)
    release(theirs.parent, OLD)
    theirs.chmod(0o755)
    release(source, NEW)
    k3s, _ = engine(tmp_path, source=source, version=NEW)
    await k3s.apply(PLAN)
    assert (await k3s.installed() or "").startswith(NEW)
    await k3s.remove()
    assert (await k3s.installed() or "").startswith(OLD)
    assert [path.name for path in theirs.parent.iterdir()] == ["k3s"]


async def test_removal_takes_an_unfinished_download_with_it(tmp_path: Path) -> None:
    part = Disk(HOME, tmp_path / "root").path(PROGRAM).with_name(f".k3s.{NEW}.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half of it")
    k3s, _ = engine(tmp_path)
    await k3s.remove()
    assert list(part.parent.iterdir()) == []
