from __future__ import annotations

import os
from pathlib import Path

import pytest
from kairos_engine_k3s.launch import HOME
from kairos_engine_k3s.program import PROGRAM, find_program, put_program

from kairos_core import Disk, EngineError


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    disk = Disk(HOME, tmp_path / "root")
    disk.path(PROGRAM).parent.mkdir(parents=True)
    return disk


def drafted(disk: Disk, content: str = "ours") -> Path:
    draft = disk.path(PROGRAM).with_name(".k3s.new")
    draft.write_text(content)
    draft.chmod(0o600)
    return draft


def test_a_draft_takes_its_place_at_once_and_can_be_run(disk: Disk) -> None:
    installed = put_program(drafted(disk), disk)
    assert os.access(installed, os.X_OK)
    assert find_program(disk.root) == installed
    assert disk.state().program == PROGRAM
    assert os.listdir(disk.path(PROGRAM).parent) == ["k3s"]


def test_what_runs_is_started_again_when_its_program_is_another(disk: Disk) -> None:
    disk.remember(service="k3s", running="a digest")
    put_program(drafted(disk), disk)
    assert (disk.state().service, disk.state().running) == ("k3s", "")


def test_a_k3s_of_the_operator_comes_back_when_ours_goes(disk: Disk) -> None:
    disk.path(PROGRAM).write_text("the operator's")
    put_program(drafted(disk, "ours"), disk)
    put_program(drafted(disk, "ours, another version"), disk)
    assert disk.path(PROGRAM).read_text() == "ours, another version"
    disk.remove(PROGRAM)
    assert disk.path(PROGRAM).read_text() == "the operator's"


def test_a_link_of_the_operator_comes_back_as_a_link(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("the operator's")
    disk.path(PROGRAM).symlink_to(tmp_path / "elsewhere")
    put_program(drafted(disk), disk)
    assert (tmp_path / "elsewhere").read_text() == "the operator's"
    disk.remove(PROGRAM)
    assert disk.path(PROGRAM).is_symlink()


def test_a_place_that_takes_no_program_is_an_error_that_names_it(disk: Disk) -> None:
    draft = drafted(disk)
    draft.unlink()
    with pytest.raises(EngineError, match=r"cannot put k3s into .*usr/local/bin/k3s"):
        put_program(draft, disk)
