"""The SQLite store keeps what it acknowledged, and never empties a file in silence."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_store_sqlite import SqliteStore
from kairos_store_sqlite.store import APPLICATION, FORMAT

from kairos_core import StoreBatch, StoreError
from kairos_core.runtime.plugins import load_plugins
from kairos_core.testing.disks import (
    check_files_are_private,
    check_full_disk,
    check_second_agent_is_refused,
    small_disk,
)
from kairos_core.testing.kills import check_survives_kills
from kairos_core.testing.stores import check_ledger_store

ONE = StoreBatch(put=(("role", "a", b"signed"),))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(directory=tmp_path)
    yield store
    store.close()


def filled(tmp_path: Path, entries: int = 200) -> Path:
    """Return the path of a closed store of some pages."""
    store = SqliteStore(directory=tmp_path)
    store.save(StoreBatch(put=tuple(("b", f"{n:06}", os.urandom(500)) for n in range(entries))))
    store.close()
    return store.path


def test_it_keeps_the_promises_of_a_ledger_store(tmp_path: Path) -> None:
    check_ledger_store(lambda: SqliteStore(directory=tmp_path))


def test_it_is_offered_as_sqlite_and_made_by_the_node(tmp_path: Path) -> None:
    offer = load_plugins().get("ledger_store", "sqlite")
    assert offer.distribution == "kairos-store-sqlite"
    assert list(offer.create({}, directory=tmp_path).load()) == []


def test_its_files_are_for_the_agent_alone(tmp_path: Path) -> None:
    check_files_are_private(SqliteStore, tmp_path)


def test_the_log_of_sqlite_is_for_the_agent_alone_too(store: SqliteStore, tmp_path: Path) -> None:
    store.save(ONE)
    assert len(list(tmp_path.iterdir())) >= 2, "the file and its WAL"


def test_a_second_agent_on_the_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kairos_store_sqlite.store.LOCK_WAIT", 0.01)
    check_second_agent_is_refused(SqliteStore, tmp_path)


@pytest.mark.parametrize("damage", ["random", "empty", "headless", "truncated", "overwritten page"])
def test_a_damaged_file_is_set_aside_by_date_and_the_next_load_begins_anew(tmp_path: Path, damage: str) -> None:
    path = filled(tmp_path)
    whole = path.read_bytes()
    harmed = {
        "random": os.urandom(8192),
        "empty": b"",
        "headless": bytes(100) + whole[100:],
        "truncated": whole[: len(whole) // 2],
        "overwritten page": whole[:8192] + os.urandom(4096) + whole[12288:],
    }[damage]
    path.write_bytes(harmed)
    store = SqliteStore(directory=tmp_path)
    with pytest.raises(StoreError, match=r"is damaged \(.+\) and was set aside as ledger\.db\.damaged-20"):
        store.load()
    (aside,) = tmp_path.glob("ledger.db.damaged-*Z")
    assert aside.read_bytes() == harmed
    assert store.load() == []
    store.save(ONE)
    store.close()
    assert SqliteStore(directory=tmp_path).load() == [b"signed"]


def test_two_damages_in_one_second_keep_both_files(tmp_path: Path, store: SqliteStore) -> None:
    for _ in range(3):
        store.path.write_bytes(b"not a database, not by far" * 100)
        with pytest.raises(StoreError):
            store.load()
    assert len(list(tmp_path.glob("ledger.db.damaged-*"))) == 3


def test_saving_into_a_damaged_file_is_an_error_and_leaves_it_for_the_next_start(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match="Restart the agent"):
        SqliteStore(directory=tmp_path).save(ONE)
    assert path.read_bytes() == b"x" * 5000


def test_a_newer_format_is_refused_again_and_again_and_left_alone(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"pragma user_version = {FORMAT + 1}")
    connection.close()
    store = SqliteStore(directory=tmp_path)
    for call in (store.load, store.load, lambda: store.save(ONE)):
        with pytest.raises(StoreError, match=f"has format {FORMAT + 1}, written by a newer"):
            call()
    assert len(list(tmp_path.glob("*damaged*"))) == 0


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "ledger.db")
    connection.execute(f"pragma application_id = {APPLICATION + 1}")
    connection.close()
    with pytest.raises(StoreError, match="the database of another program"):
        SqliteStore(directory=tmp_path).load()
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]


def test_a_missing_directory_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"the ledger cannot be read: No such file or directory: .*gone"):
        SqliteStore(directory=tmp_path / "gone").load()


def test_a_start_that_was_killed_before_the_file_was_whole_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "ledger.db.new").write_bytes(b"half")
    assert SqliteStore(directory=tmp_path).load() == []


def test_what_is_left_of_a_file_that_was_moved_away_is_not_played_into_the_next(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    killed.mkdir()
    store = SqliteStore(directory=tmp_path)
    for number in range(1200):
        store.save(StoreBatch(put=(("b", str(number), os.urandom(1000)),)))
    for side in tmp_path.glob("ledger.db-*"):  # as a kill leaves them: closing tidies them away
        (killed / side.name).write_bytes(side.read_bytes())
    store.close()
    store = SqliteStore(directory=killed)
    assert store.load() == []
    store.close()
    assert SqliteStore(directory=killed).load() == []


@given(position=st.integers(0, 2**16), junk=st.binary(min_size=1, max_size=64))
@settings(max_examples=60, deadline=None)
def test_whatever_happens_to_the_file_load_returns_bytes_or_raises_store_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, junk: bytes
) -> None:
    directory = tmp_path_factory.mktemp("store")
    path = filled(directory, entries=20)
    content = bytearray(path.read_bytes())
    content[position % len(content) : position % len(content) + len(junk)] = junk
    path.write_bytes(content)
    store = SqliteStore(directory=directory)
    try:
        assert all(isinstance(signed, bytes) for signed in store.load())
    except StoreError:
        pass
    finally:
        store.close()


@pytest.mark.system
def test_two_hundred_kills_lose_no_acknowledged_batch(tmp_path: Path) -> None:
    assert check_survives_kills("kairos_store_sqlite:SqliteStore", tmp_path) > 2000, "that was no load"


@pytest.mark.system
def test_a_full_disk_loses_nothing_acknowledged_and_is_an_error_with_advice(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        check_full_disk(SqliteStore, disk)
