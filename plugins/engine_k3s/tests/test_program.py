from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from kairos_engine_k3s import program
from kairos_engine_k3s.program import find_program, install_program

from kairos_core import EngineError


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a release for this machine, which is said to be an x86_64."""
    monkeypatch.setattr(program.platform, "machine", lambda: "x86_64")
    directory = tmp_path / "release"
    directory.mkdir()
    (directory / "k3s").write_bytes(b"a program")
    return directory


def _sums(release: Path, digest: str) -> None:
    (release / "sha256sum-amd64.txt").write_text(f"{'1' * 64}  k3s-airgap-images-amd64.tar\n{digest}  k3s\n")


def test_a_release_with_the_right_checksum_is_installed(release: Path, tmp_path: Path) -> None:
    _sums(release, hashlib.sha256(b"a program").hexdigest())
    installed = install_program(release, tmp_path)
    assert os.access(installed, os.X_OK)
    assert find_program(tmp_path) == installed


def test_a_damaged_release_is_refused_and_leaves_nothing(release: Path, tmp_path: Path) -> None:
    _sums(release, "0" * 64)
    with pytest.raises(EngineError, match="is damaged"):
        install_program(release, tmp_path)
    assert find_program(tmp_path) is None


def test_a_single_file_is_a_source_too(release: Path, tmp_path: Path) -> None:
    assert Path(install_program(release / "k3s", tmp_path)).read_bytes() == b"a program"


def test_a_source_that_is_not_there_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"Set k3s\.install\.source"):
        install_program(tmp_path / "nothing", tmp_path)
    assert not list((tmp_path).rglob(".k3s.new"))
