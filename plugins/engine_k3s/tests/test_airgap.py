from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from kairos_engine_k3s.airgap import copy_images, copy_verified, images_in, program_in
from kairos_engine_k3s.launch import HOME
from kairos_engine_k3s.program import UnfitError
from kairos_engine_k3s.release import assets_of

from kairos_core import Disk, EngineError

ASSETS = assets_of("x86_64")
DATA = "/var/lib/rancher/k3s"
IMAGES = "k3s-airgap-images-amd64.tar"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A directory with the files of a release."""
    directory = tmp_path / "release"
    directory.mkdir()
    (directory / "k3s").write_bytes(b"a program")
    return directory


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return tmp_path / "root/usr/local/bin/.k3s.new"


def copy(file: Path, draft: Path) -> None:
    copy_verified(file, draft, ASSETS, threading.Event())


def install(archive: Path, disk: Disk, data: str = DATA) -> None:
    copy_images(archive, data, disk, ASSETS, threading.Event())


def add_sum(release: Path, name: str, digest: str) -> None:
    with (release / "sha256sum-amd64.txt").open("a") as sums:
        sums.write(f"{digest}  {name}\n")


def archived(release: Path, name: str, content: bytes) -> Path:
    (release / name).write_bytes(content)
    return release / name


def test_a_program_is_found_by_its_name_for_the_machine_or_by_its_plain_one(release: Path) -> None:
    assert program_in(release, assets_of("aarch64")) == release / "k3s"
    (release / "k3s-arm64").write_bytes(b"")
    assert program_in(release, assets_of("aarch64")) == release / "k3s-arm64"


def test_a_single_file_is_a_source_too(release: Path) -> None:
    assert program_in(release / "k3s", ASSETS) == release / "k3s"
    assert images_in(release / "k3s", ASSETS) is None


def test_a_directory_may_hold_images_only(release: Path) -> None:
    (release / "k3s").unlink()
    for name in (IMAGES, f"{IMAGES}.zst"):
        archived(release, name, b"")
    assert program_in(release, ASSETS) is None
    assert images_in(release, ASSETS) == release / f"{IMAGES}.zst"


def test_a_file_with_the_right_checksum_is_copied_for_its_owner_only(release: Path, draft: Path) -> None:
    add_sum(release, IMAGES, "1" * 64)
    add_sum(release, "k3s", hashlib.sha256(b"a program").hexdigest())
    copy(release / "k3s", draft)
    assert (draft.read_bytes(), draft.stat().st_mode & 0o777) == (b"a program", 0o600)


def test_a_file_without_a_checksum_is_taken_as_it_is(release: Path, draft: Path) -> None:
    add_sum(release, IMAGES, "1" * 64)
    copy(release / "k3s", draft)
    assert draft.exists()


def test_a_damaged_file_is_refused_and_leaves_nothing(release: Path, draft: Path) -> None:
    add_sum(release, "k3s", "0" * 64)
    with pytest.raises(UnfitError, match=r"k3s is damaged: .*sha256sum-amd64\.txt beside it says 000"):
        copy(release / "k3s", draft)
    assert not draft.exists()


def test_a_source_that_is_not_there_is_an_error_that_names_the_setting(tmp_path: Path, draft: Path) -> None:
    with pytest.raises(EngineError, match=r"No such file.*Set k3s\.install\.source"):
        copy(tmp_path / "nothing", draft)
    assert not draft.exists()


def test_an_agent_that_ends_stops_the_copy_and_leaves_nothing(release: Path, draft: Path) -> None:
    stopped = threading.Event()
    stopped.set()
    with pytest.raises(EngineError, match="was stopped"):
        copy_verified(release / "k3s", draft, ASSETS, stopped)
    assert not draft.exists()


def test_images_are_put_where_k3s_imports_them_and_remembered(release: Path, tmp_path: Path) -> None:
    disk = Disk(HOME, tmp_path / "root")
    disk.remember(running="a digest")
    install(archived(release, IMAGES, b"images"), disk)
    target = f"{DATA}/agent/images/{IMAGES}"
    assert disk.path(target).read_bytes() == b"images"
    assert (disk.state().images, disk.state().running) == (target, "")
    assert [path.name for path in disk.path(target).parent.iterdir()] == [IMAGES]


def test_equal_images_are_not_copied_again_and_k3s_goes_on(release: Path, tmp_path: Path) -> None:
    disk = Disk(HOME, tmp_path / "root")
    archive = archived(release, IMAGES, b"images")
    install(archive, disk)
    before = disk.path(disk.state().images).stat().st_ino
    disk.remember(running="a digest")
    install(archive, disk)
    assert disk.path(disk.state().images).stat().st_ino == before
    assert disk.state().running == "a digest"


def test_images_of_another_release_replace_ours(release: Path, tmp_path: Path) -> None:
    disk = Disk(HOME, tmp_path / "root")
    install(archived(release, IMAGES, b"images"), disk)
    install(archived(release, IMAGES, b"images of the next release"), disk)
    assert disk.path(disk.state().images).read_bytes() == b"images of the next release"
    install(archived(release, f"{IMAGES}.zst", b"smaller"), disk)
    assert [path.name for path in disk.path(disk.state().images).parent.iterdir()] == [f"{IMAGES}.zst"]


def test_images_of_the_operator_stay(release: Path, tmp_path: Path) -> None:
    disk = Disk(HOME, tmp_path / "root")
    theirs = disk.path(f"{DATA}/agent/images/{IMAGES}")
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"the operator's")
    install(archived(release, IMAGES, b"images"), disk)
    assert theirs.read_bytes() == b"the operator's"
    assert disk.state().images == ""


def test_images_that_are_damaged_are_refused(release: Path, tmp_path: Path) -> None:
    disk = Disk(HOME, tmp_path / "root")
    add_sum(release, IMAGES, "0" * 64)
    with pytest.raises(UnfitError, match="is damaged"):
        install(archived(release, IMAGES, b"images"), disk)
    assert not list((tmp_path / "root").rglob("*.tar*"))


def test_images_without_a_place_are_an_error(release: Path, tmp_path: Path) -> None:
    (tmp_path / "root/var").mkdir(parents=True)
    (tmp_path / "root/var/lib").symlink_to("/dev/null")
    with pytest.raises(EngineError, match="cannot"):
        install(archived(release, IMAGES, b"images"), Disk(HOME, tmp_path / "root"))
