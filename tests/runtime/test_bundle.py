"""The bundle for helpers: what is in it, and what never is."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from kairos_core.errors import ConfigError
from kairos_core.runtime.bundle import LINES, write_bundle

HUSH = "hush-hush-hush"


def members(file: Path) -> dict[str, str]:
    with tarfile.open(file) as archive:
        found = {}
        for member in archive.getmembers():
            stream = archive.extractfile(member)
            assert stream is not None
            found[member.name.removeprefix("kairos-bundle/")] = stream.read().decode()
        return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    log = tmp_path / "root/var/log/k3s.log"
    log.parent.mkdir(parents=True)
    log.write_text("\n".join([*(f"line {number}" for number in range(LINES + 10)), f"joined with {HUSH}"]))
    return tmp_path / "root"


def test_documents_commands_and_logs_are_in_it_and_secrets_are_not(tmp_path: Path, root: Path) -> None:
    target = tmp_path / "bundle.tar.gz"
    documents = {"doctor.json": [{"check": "x", "message": f"it is {HUSH}"}], "configuration.txt": f"token={HUSH}"}
    write_bundle(target, documents, [HUSH], root)
    found = members(target)
    assert {"machine.txt", "doctor.json", "configuration.txt", "k3s.log", "cgroups.txt", "versions.txt"} <= set(found)
    assert not [name for name, text in found.items() if HUSH in text]
    assert "kairos-core" in found["versions.txt"]
    assert found["k3s.log"].count("\n") == LINES - 1, "the end of a log is kept, not all of it"
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path, root: Path) -> None:
    target = tmp_path / "mine"
    target.write_text("precious")
    with pytest.raises(ConfigError, match="is there already"):
        write_bundle(target, {}, [], root)
    assert target.read_text() == "precious"


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, root: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        write_bundle(tmp_path / "none" / "bundle", {}, [], root)
