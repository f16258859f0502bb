from __future__ import annotations

import os
from pathlib import Path

import pytest
from kairos_engine_k0s import K0sEngine
from kairos_engine_k0s.program import find_program, install_program

from kairos_core import Attachment, EngineError, NodePlan, Role


def test_the_release_for_this_machine_is_taken_from_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    release = tmp_path / "release"
    release.mkdir()
    for name in ("k0s-v1.33.4+k0s.0-amd64", "k0s-v1.33.4+k0s.0-arm64", "k0s-airgap-bundle-v1.33.4+k0s.0-arm64"):
        (release / name).write_text(name)
    installed = install_program(release, tmp_path)
    assert Path(installed).read_text() == "k0s-v1.33.4+k0s.0-arm64"
    assert os.access(installed, os.X_OK)
    assert find_program(tmp_path) == installed


def test_a_source_that_is_not_there_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"Set k0s\.install\.source"):
        install_program(tmp_path / "nothing", tmp_path)
    assert find_program(tmp_path) is None


async def test_without_k0s_it_says_what_to_do(tmp_path: Path) -> None:
    engine = K0sEngine(root=tmp_path)
    assert await engine.installed() is None
    with pytest.raises(EngineError, match="Put the k0s binary into /usr/local/bin"):
        await engine.apply(NodePlan(Role.MASTER, "a", Attachment()))
