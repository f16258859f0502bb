"""The store in plain files keeps what it acknowledged, and never empties a file in silence."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_store_files import FilesStore
from kairos_store_files.file import MIN_LOG

from kairos_core import StoreBatch, StoreError
from kairos_core.runtime.plugins import load_plugins
from kairos_core.testing.disks import (
    check_files_are_private,
    check_full_disk,
    check_second_agent_is_refused,
    full,
    small_disk,
)
from kairos_core.testing.kills import check_survives_kills
from kairos_core.testing.stores import check_ledger_store

ONE = StoreBatch(put=(("role", "a", b"signed"),))
SIZE = 500


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FilesStore]:
    store = FilesStore(directory=tmp_path)
    yield store
    store.close()


def batch(number: int, size: int = SIZE) -> StoreBatch:
    return StoreBatch(put=(("b", str(number), f"{number};".encode().ljust(size, b".")),))


def saved(directory: Path, *batches: StoreBatch) -> Path:
    """Return the path of a closed store over which each batch was saved in turn."""
    store = FilesStore(directory=directory)
    store.load()
    for each in batches:
        store.save(each)
    store.close()
    return store.path


def loaded(directory: Path) -> list[bytes]:
    store = FilesStore(directory=directory)
    try:
        return sorted(store.load())
    finally:
        store.close()


def entries(*numbers: int) -> list[bytes]:
    return sorted(signed for number in numbers for *_, signed in batch(number).put)


def test_it_keeps_the_promises_of_a_ledger_store(tmp_path: Path) -> None:
    check_ledger_store(lambda: FilesStore(directory=tmp_path))


def test_it_is_offered_as_files_and_made_by_the_node(tmp_path: Path) -> None:
    offer = load_plugins().get("ledger_store", "files")
    assert offer.distribution == "kairos-store-files"
    assert list(offer.create({}, directory=tmp_path).load()) == []


def test_its_files_are_for_the_agent_alone(tmp_path: Path) -> None:
    check_files_are_private(FilesStore, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"ledger.journal", "ledger.lock"}


def test_a_second_agent_on_the_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kairos_store_files.store.LOCK_WAIT", 0.01)
    check_second_agent_is_refused(FilesStore, tmp_path)


# -- what a kill leaves -------------------------------------------------------------------------------------------


def test_wherever_the_last_batch_breaks_off_all_before_it_is_there_and_a_note_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path, batch(1), batch(2))
    whole = path.read_bytes()
    saved(tmp_path, batch(3, size=40))
    longer = path.read_bytes()
    for length in range(len(whole) + 1, len(longer)):
        path.write_bytes(longer[:length])
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert loaded(tmp_path) == entries(1, 2)
        (note,) = caplog.messages
        assert note.startswith("torn tail: ")
        assert f"ended in {length - len(whole)} bytes" in note
        assert path.read_bytes() == whole, "the tail is cut off"


@given(junk=st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_whatever_a_power_cut_makes_of_the_last_batch_all_before_it_is_there(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    """Blocks of it may hold anything: zeros, or what was on the disk before."""
    directory = tmp_path_factory.mktemp("store")
    path = saved(directory, batch(1), batch(2))
    with path.open("ab") as file:
        file.write(junk)
    assert loaded(directory) == entries(1, 2)


def test_a_batch_that_looks_like_a_record_does_not_pass_for_one(tmp_path: Path) -> None:
    """A member may write anything into the ledger, also the bytes of another node's journal."""
    other = tmp_path / "other"
    other.mkdir()
    forged = saved(other, batch(66)).read_bytes()
    path = saved(tmp_path, batch(1))
    saved(tmp_path, StoreBatch(put=(("b", "2", forged + b"." * 100),)))
    path.write_bytes(path.read_bytes()[:-50])
    assert loaded(tmp_path) == entries(1)


def test_saving_goes_on_behind_a_tail_that_was_cut_off(tmp_path: Path) -> None:
    path = saved(tmp_path, batch(1), batch(2))
    path.write_bytes(path.read_bytes()[:-1])
    store = FilesStore(directory=tmp_path)
    store.save(batch(3))  # without a load before it
    store.close()
    assert loaded(tmp_path) == entries(1, 3)


def test_a_snapshot_that_was_killed_before_it_was_whole_is_no_damage(tmp_path: Path) -> None:
    path = saved(tmp_path, batch(1))
    path.with_name("ledger.journal.new").write_bytes(path.read_bytes()[:60])
    assert loaded(tmp_path) == entries(1)
    store = FilesStore(directory=tmp_path)
    for _ in range(3):
        store.save(batch(2, size=MIN_LOG // 2))
    store.close()
    assert len(loaded(tmp_path)) == 2
    assert not path.with_name("ledger.journal.new").exists()


def test_a_first_start_that_was_killed_before_the_file_was_whole_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "ledger.journal.new").write_bytes(b"half")
    assert loaded(tmp_path) == []


@pytest.mark.system
def test_two_hundred_kills_lose_no_acknowledged_batch(tmp_path: Path) -> None:
    assert check_survives_kills("kairos_store_files:FilesStore", tmp_path) > 2000, "that was no load"


# -- its length ---------------------------------------------------------------------------------------------------


def test_the_file_stays_in_proportion_to_what_it_holds(store: FilesStore) -> None:
    big = MIN_LOG // 4
    for number in range(100):
        store.save(batch(number % 8, size=big))
        assert store.path.stat().st_size <= 2 * 9 * big + MIN_LOG
    assert len(store.load()) == 8
    store.close()
    assert len(store.load()) == 8


def test_a_large_ledger_is_kept_in_a_snapshot_of_several_records(tmp_path: Path) -> None:
    for number in range(30):
        saved(tmp_path, batch(number, size=MIN_LOG // 5))
    assert loaded(tmp_path) == sorted(batch(number, size=MIN_LOG // 5).put[0][2] for number in range(30))


def test_a_file_that_was_removed_under_the_running_agent_is_written_again(store: FilesStore, tmp_path: Path) -> None:
    store.save(batch(1))
    store.path.unlink()
    store.save(batch(2))
    store.close()
    assert loaded(tmp_path) == entries(1, 2)


# -- damage -------------------------------------------------------------------------------------------------------


def flip(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]


def with_damage(path: Path, damage: str) -> list[int]:
    """Harm a file with the entries 0 and 1 in its snapshot and 2, 3, 4 behind it; return those that stay whole."""
    whole = path.read_bytes()
    places = {number: whole.index(f"{number};".encode()) for number in range(5)}
    harmed, rescued = {
        "empty": (b"", []),
        "random": (os.urandom(8192), []),
        "head": (flip(whole, 14), []),
        "snapshot": (flip(whole, places[0] + 100), [2, 3, 4]),
        "snapshot breaks off": (whole[: places[1] + 10], []),
        "a batch in the middle": (flip(whole, places[3] + 100), [0, 1, 2, 4]),
        "a length in the middle": (flip(whole, places[3] - 25), [0, 1, 2, 4]),
        "a hole": (whole[: places[2]] + bytes(100) + whole[places[2] + 100 :], [0, 1, 3, 4]),
        "bytes are missing": (whole[: places[2] + 20] + whole[places[2] + 60 :], [0, 1, 3, 4]),
    }[damage]
    path.write_bytes(harmed)
    return rescued


DAMAGES = [
    *("empty", "random", "head", "snapshot", "snapshot breaks off", "a hole", "bytes are missing"),
    *("a batch in the middle", "a length in the middle"),
]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A file with the entries 0 and 1 in its snapshot, and 2, 3, 4 each in a batch."""
    store = FilesStore(directory=tmp_path)
    store.save(StoreBatch(put=(*batch(0).put, *batch(1).put)))
    store.path.unlink()
    for number in (2, 3, 4):
        store.save(batch(number))
    store.close()
    return store.path


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_set_aside_by_date_and_what_is_whole_in_it_is_kept(
    filled: Path, damage: str, tmp_path: Path
) -> None:
    rescued = with_damage(filled, damage)
    harmed = filled.read_bytes()
    store = FilesStore(directory=tmp_path)
    goes_on = f"{len(rescued)} entries" if rescued else "an empty ledger"
    pattern = rf"is damaged \(.+\) and was set aside as ledger\.journal\.damaged-20.*goes on with {goes_on}"
    with pytest.raises(StoreError, match=pattern):
        store.load()
    (aside,) = tmp_path.glob("ledger.journal.damaged-*Z")
    assert aside.read_bytes() == harmed
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    assert sorted(store.load()) == entries(*rescued)
    store.save(batch(9))
    store.close()
    assert loaded(tmp_path) == entries(*rescued, 9)


def test_two_damages_in_one_second_keep_both_files(tmp_path: Path) -> None:
    for _ in range(3):
        (tmp_path / "ledger.journal").write_bytes(b"not a journal, not by far" * 100)
        store = FilesStore(directory=tmp_path)
        with pytest.raises(StoreError):
            store.load()
        store.close()
    assert len(list(tmp_path.glob("ledger.journal.damaged-*"))) == 3


def test_on_a_disk_without_links_the_damaged_file_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled: Path
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")  # what vfat says

    monkeypatch.setattr(os, "link", refuse)
    with_damage(filled, "a hole")
    harmed = filled.read_bytes()
    with pytest.raises(StoreError, match="set aside"):
        loaded(tmp_path)
    (aside,) = tmp_path.glob("ledger.journal.damaged-*")
    assert aside.read_bytes() == harmed


def test_saving_into_a_damaged_file_is_an_error_and_leaves_it_for_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "ledger.journal"
    path.write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match="Restart the agent"):
        FilesStore(directory=tmp_path).save(ONE)
    assert path.read_bytes() == b"x" * 5000


def test_a_newer_format_is_refused_again_and_again_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kairos_store_files.journal.FORMAT", 2)
    path = saved(tmp_path, batch(1))
    monkeypatch.undo()
    content = path.read_bytes()
    store = FilesStore(directory=tmp_path)
    for call in (store.load, store.load, lambda: store.save(ONE)):
        with pytest.raises(StoreError, match="has format 2, written by a newer"):
            call()
    store.close()
    assert path.read_bytes() == content
    assert len(list(tmp_path.glob("*damaged*"))) == 0


def test_a_missing_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"the ledger cannot be read: No such file or directory: .*gone"):
        FilesStore(directory=tmp_path / "gone").load()


@given(position=st.integers(0, 2**16), junk=st.binary(min_size=1, max_size=64))
@settings(max_examples=40, deadline=None)
def test_whatever_happens_to_the_file_only_entries_that_were_saved_come_back(
    tmp_path_factory: pytest.TempPathFactory, position: int, junk: bytes
) -> None:
    directory = tmp_path_factory.mktemp("store")
    path = saved(directory, *[batch(number) for number in range(20)])
    content = bytearray(path.read_bytes())
    content[position % len(content) : position % len(content) + len(junk)] = junk
    path.write_bytes(content)
    store = FilesStore(directory=directory)
    try:
        store.load()
    except StoreError as error:
        assert "set aside" in str(error)
    # One piece of junk harms at most the record it is in and the next, or the head and so everything.
    assert set(store.load()) <= set(entries(*range(20)))
    store.close()


# -- the disk -----------------------------------------------------------------------------------------------------


def test_a_batch_that_fails_leaves_no_trace_and_can_be_saved_again(
    store: FilesStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    store.save(batch(1))
    monkeypatch.setattr(os, "fdatasync", fail)
    for number in (2, 3):
        with pytest.raises(StoreError, match=r"cannot be saved: Input/output error: .*dmesg"):
            store.save(batch(number))
    assert store.load() == entries(1)
    monkeypatch.undo()
    store.save(batch(3))
    store.close()
    assert loaded(tmp_path) == entries(1, 3)


def test_a_snapshot_that_fails_is_put_off_and_the_batch_counts_as_saved(
    store: FilesStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    store.load()
    monkeypatch.setattr(os, "fsync", fail)
    for number in range(5):
        store.save(batch(number, size=MIN_LOG // 2))
    assert "cannot be shortened, and grows: the disk of" in caplog.text
    assert len(caplog.messages) == 2, "it is not tried at each batch"
    monkeypatch.undo()
    for number in range(5, 8):
        store.save(batch(number, size=MIN_LOG // 2))
    assert store.path.stat().st_size < 4.6 * MIN_LOG
    store.close()
    assert len(loaded(tmp_path)) == 8


@pytest.mark.system
def test_a_full_disk_loses_nothing_acknowledged_and_is_an_error_with_advice(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        check_full_disk(FilesStore, disk, least=100)


@pytest.mark.system
def test_damage_on_a_full_disk_is_found_again_until_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        path = saved(disk, *[batch(number) for number in range(20)])
        path.write_bytes(flip(path.read_bytes(), 3000))
        store = FilesStore(directory=disk)
        with full(disk):
            for _ in range(2):
                with pytest.raises(StoreError, match="full"):
                    store.load()
        with pytest.raises(StoreError, match="set aside"):
            store.load()
        assert len(store.load()) == 19
        assert len(list(disk.glob("*damaged*"))) == 1
        store.close()


def test_the_lock_goes_with_the_store_and_not_with_its_file(store: FilesStore) -> None:
    store.save(batch(1))
    store.path.unlink()
    store.save(batch(2))
    with store.path.with_name("ledger.lock").open("rb") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
