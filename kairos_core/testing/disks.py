"""For authors of ledger stores on a disk: what other users, a second agent and a full disk must not do to one.

def test_my_store_on_a_full_disk(tmp_path):  # as root: it mounts a small disk
    with small_disk(tmp_path) as disk:
        check_full_disk(MyStore, disk)
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from kairos_core.errors import StoreError
from kairos_core.interfaces import LedgerStore, StoreBatch

Make = Callable[[Path], LedgerStore]
"""Makes a store over a directory."""

_ONE = StoreBatch(put=(("role", "a", b"signed"),))
_BIG = StoreBatch(put=(("b", "big", b"x" * 60_000),))


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Mount a disk of 256 KiB below a directory. Needs root."""
    disk = directory / f"disk-{uuid.uuid4().hex[:8]}"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "kairos-test", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a disk to its last byte for a while."""
    ballast = disk / "ballast"
    with suppress(OSError):
        ballast.write_bytes(bytes(1 << 20))
    try:
        yield
    finally:
        ballast.unlink()


def check_files_are_private(make: Make, directory: Path) -> None:
    """Check that making a store touches no file, and that its files are the owner's alone, whatever the umask is."""
    store = make(directory)
    assert not list(directory.iterdir()), "a store must touch no file before its first call"
    before = os.umask(0)
    try:
        store.save(_ONE)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    store.close()
    assert modes, "a store on a disk must write files"
    assert set(modes.values()) == {0o600}, f"others may read the ledger: {modes}"


def check_second_agent_is_refused(make: Make, directory: Path) -> None:
    """Check that two agents never use one directory, and that the second may once the first has closed."""
    first, second = make(directory), make(directory)
    first.save(_ONE)
    for call in (second.load, lambda: second.save(_ONE)):
        said = _error(call)
        assert "another process holds" in said, said
        assert "Stop the second agent" in said, said
    first.close()
    assert list(second.load()) == [b"signed"], "it must be free once the first has closed"
    second.close()


def check_full_disk(make: Make, disk: Path, least: int = 5) -> None:
    """Check on a small, empty disk that none of what was acknowledged is lost when it is full, and that saving goes on.

    `least` is how many batches of 500 bytes the disk has to hold. Raises AssertionError that says what is broken.
    """
    for check in (_check_first_start, partial(_check_until_full, least), _check_room_again):
        directory = disk / "ledger"
        directory.mkdir()
        check(make, directory, disk)
        shutil.rmtree(directory)


def _check_first_start(make: Make, directory: Path, disk: Path) -> None:
    store = make(directory)
    with full(disk):
        _error(store.load)
        # A lock, and a file that was begun under another name, are no ledger yet.
        left = [path.name for path in directory.iterdir() if path.suffix not in (".lock", ".new")]
        assert not left, f"a first start on a full disk must leave no half ledger: {left}"
    assert list(store.load()) == [], "it must begin once there is room"
    store.close()


def _check_until_full(least: int, make: Make, directory: Path, _disk: Path) -> None:
    store, acknowledged = make(directory), list[bytes]()

    def save_on() -> None:
        for number in range(1000):
            signed = f"{number};".encode().ljust(500, b".")
            store.save(StoreBatch(put=(("b", str(number), signed),)))
            acknowledged.append(signed)

    said = _error(save_on)
    assert "the disk of" in said, said
    assert "is full (" in said, said
    assert "bytes free). Free some space" in said, said
    assert len(acknowledged) > least, f"it holds only {len(acknowledged)} batches of 500 bytes"
    assert sorted(store.load()) == sorted(acknowledged), "the running agent must still read it"
    store.close()
    again = make(directory)
    assert sorted(again.load()) == sorted(acknowledged), "and so must the next one"
    again.close()


def _check_room_again(make: Make, directory: Path, disk: Path) -> None:
    store = make(directory)
    store.save(_ONE)
    with full(disk):
        said = _error(lambda: store.save(_BIG))
        assert "full" in said, said
    store.save(_BIG)
    for each in (store, make(directory)):
        assert len(list(each.load())) == 2, "saving must go on once there is room"
        each.close()


def _error(call: Callable[[], object]) -> str:
    try:
        call()
    except StoreError as error:
        return str(error)
    raise AssertionError("this must be a StoreError")
