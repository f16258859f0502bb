"""Which program the service starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kairos_core.agent_service.program import foreign_owner, program_in, running_program
from kairos_core.errors import ServiceError


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """The directory of programs of a venv, with `kairos` in it."""
    programs = tmp_path / "opt/kairos/bin"
    programs.mkdir(parents=True)
    for name in ("kairos", "python"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    return programs


def test_a_link_is_followed_to_the_script_in_its_venv(venv: Path, tmp_path: Path) -> None:
    link = tmp_path / "kairos"
    link.symlink_to(venv / "kairos")
    assert running_program(str(link), "/usr/bin/python3") == (str(venv / "kairos"),)


def test_links_among_the_directories_stay(venv: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(venv.parent)
    called = tmp_path / "current/bin/kairos"
    assert running_program(str(called), "/usr/bin/python3") == (str(called),)


def test_called_as_a_module_it_is_the_script_beside_the_interpreter(venv: Path, tmp_path: Path) -> None:
    module = tmp_path / "kairos_core/cli/__main__.py"
    assert running_program(str(module), str(venv / "python")) == (str(venv / "kairos"),)


def test_without_a_script_it_is_the_interpreter_with_the_module(tmp_path: Path) -> None:
    interpreter = str(tmp_path / "python")
    assert running_program("/x/__main__.py", interpreter) == (interpreter, "-P", "-m", "kairos_core.cli")


def test_in_an_image_it_is_called_as_the_image_calls_it(venv: Path, tmp_path: Path) -> None:
    inside = ("/opt/kairos/bin/kairos",)
    assert program_in(tmp_path, (str(venv / "kairos"),)) == inside
    assert program_in(tmp_path, inside) == inside
    assert program_in(Path("/"), (str(venv / "kairos"),)) == (str(venv / "kairos"),)


def test_an_image_without_the_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="has no /usr/bin/kairos"):
        program_in(tmp_path, ("/usr/bin/kairos",))


def test_a_program_that_others_can_change_is_named(venv: Path) -> None:
    if os.geteuid() != 0:
        assert foreign_owner(str(venv / "kairos")) == str(venv / "kairos")
        return
    assert foreign_owner(str(venv / "kairos")) is None
    venv.chmod(0o777)
    assert foreign_owner(str(venv / "kairos")) == str(venv)
