"""Which files are read, in which order, and what is said of one that cannot be."""

import os
from pathlib import Path

import pytest

from kairos_core.errors import ConfigError
from kairos_core.runtime.files import read_documents


def test_a_directory_gives_its_configuration_files_by_name(tmp_path: Path) -> None:
    for name in ("90_b.yaml", "10_a.yml", "cloud-config", "notes.txt", ".hidden.yaml"):
        (tmp_path / name).write_text(name)
    (tmp_path / "50_dir.yaml").mkdir()
    documents = read_documents([tmp_path])
    assert documents == [(str(tmp_path / name), name) for name in ("10_a.yml", "90_b.yaml", "cloud-config")]


def test_paths_are_read_in_the_order_given_whatever_their_names(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("1")
    (tmp_path / "a").write_text("2")
    assert [text for _, text in read_documents([tmp_path / "b", tmp_path / "a"])] == ["1", "2"]


def test_default_directories_may_be_missing(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "x.yaml").write_text("a: 1")
    assert read_documents(defaults=[tmp_path / "missing", there]) == [(str(there / "x.yaml"), "a: 1")]
    assert read_documents(defaults=[tmp_path / "missing"]) == []


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_documents([tmp_path / "x"])[0][1] == "a: 1"


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"the file .*/x cannot be read: No such file or directory\. Check the path\."
    ):
        read_documents([tmp_path / "x"])


def test_a_file_that_is_no_text_says_at_which_byte(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"ab\xff")
    with pytest.raises(ConfigError, match="is not UTF-8 text: byte 3 does not fit"):
        read_documents([tmp_path / "x"])


def test_a_huge_file_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as stream:
        os.truncate(stream.fileno(), 1 << 40)
    with pytest.raises(ConfigError, match="has more than 1048576 bytes"):
        read_documents([tmp_path / "x"])


def test_what_cannot_be_opened_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigError, match="cannot be read: Too many levels of symbolic links"):
        read_documents([tmp_path / "loop"])
