from __future__ import annotations

from pathlib import Path

import pytest

from kairos_core import locate_program

PLACES = ("/usr/local/bin/example", "/opt/bin/example")


def _program(root: Path, place: str, mode: int = 0o755) -> str:
    path = root / place.lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return str(path)


def test_the_first_place_with_a_program_that_can_be_run_counts(tmp_path: Path) -> None:
    assert locate_program("example", PLACES, tmp_path) is None
    last = _program(tmp_path, PLACES[1])
    assert locate_program("example", PLACES, tmp_path) == last
    first = _program(tmp_path, PLACES[0], mode=0o644)
    assert locate_program("example", PLACES, tmp_path) == last
    Path(first).chmod(0o755)
    assert locate_program("example", PLACES, tmp_path) == first


def test_path_goes_first_and_is_not_asked_for_another_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_path = _program(tmp_path, "/somewhere/example")
    monkeypatch.setenv("PATH", str(Path(in_path).parent))
    elsewhere = _program(tmp_path, "/usr/local/bin/example")
    assert locate_program("example", (elsewhere,)) == in_path
    assert locate_program("example", PLACES, tmp_path) == elsewhere
    assert locate_program("example", PLACES, tmp_path / "image") is None
