from __future__ import annotations

from pathlib import Path

import pytest

from kairos_core import Disk, EngineError, File, Home

UNIT = "/etc/systemd/system/example.service"
HOME = Home("/var/lib/kairos/engine_example", "/etc/example")


def test_files_are_written_with_their_mode_and_wide_ones_are_narrowed(tmp_path: Path) -> None:
    disk, file = Disk(HOME, tmp_path), File(UNIT, "text", 0o600)
    disk.converge([file])
    written = disk.path(UNIT)
    assert (written.read_text(), written.stat().st_mode & 0o7777) == ("text", 0o600)
    written.chmod(0o644)
    disk.converge([file])
    assert written.stat().st_mode & 0o7777 == 0o600


def test_equal_files_are_not_written_again(tmp_path: Path) -> None:
    disk, file = Disk(HOME, tmp_path), File(UNIT, "text")
    disk.converge([file])
    before = disk.path(UNIT).stat().st_ino
    Disk(HOME, tmp_path).converge([file])
    assert disk.path(UNIT).stat().st_ino == before


def test_what_was_there_before_comes_back(tmp_path: Path) -> None:
    disk = Disk(HOME, tmp_path)
    unit = disk.path(UNIT)
    unit.parent.mkdir(parents=True)
    unit.write_text("of the distribution")
    disk.converge([File(UNIT, "ours")])
    disk.converge([File(UNIT, "ours, changed")])
    assert unit.read_text() == "ours, changed"
    disk.converge([])
    assert unit.read_text() == "of the distribution"
    assert disk.state().files == ()


def test_what_is_forgotten_leaves_only_what_others_have(tmp_path: Path) -> None:
    disk = Disk(HOME, tmp_path)
    disk.remember(service="example")
    for name in ("/var/log/example.log", "/var/log/example.log.1", "/var/log/other.log", "/etc/example/theirs"):
        disk.write(File(name, "text"))
    disk.forget()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file() or not [*path.iterdir()]}
    assert left == {"etc/example/theirs", "var/log/other.log", "var/lib/kairos"}
    disk.forget()


def test_a_damaged_record_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    record = Disk(HOME, tmp_path).path(f"{HOME.state}/state.json")
    record.parent.mkdir(parents=True)
    for text in ("{", "[]", '{"files": 1}', '{"files": [], "unknown": 1}'):
        record.write_text(text)
        with pytest.raises(EngineError, match="Remove the file"):
            Disk(HOME, tmp_path).state()


def test_a_disk_that_takes_no_writes_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file where a directory should be")
    with pytest.raises(EngineError, match=r"cannot write .*example\.service"):
        Disk(HOME, tmp_path).converge([File(UNIT, "text")])


def test_a_file_shows_no_content() -> None:
    assert "hidden" not in repr(File(UNIT, "hidden"))
