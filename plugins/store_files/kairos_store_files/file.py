"""The journal on disk: made whole or not at all, appended to, and replaced by a shorter one of the same content.

A file gets its name only after all of it is on the disk, so under that name there is always a whole snapshot.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from kairos_core import StoreBatch
from kairos_store_files.journal import MARK, Journal, apply_batch, decode_journal, encode_batch, encode_snapshot

MIN_LOG = 1 << 20
"""Bytes of batches behind the snapshot before a new one is made; more, if the snapshot is larger. Raising it writes
the whole ledger less often, and makes the file and the time of a start grow."""


class JournalFile:
    """An open journal and, in `content`, what it holds."""

    def __init__(self, path: Path, handle: int, content: Journal) -> None:
        self.path, self.content = path, content
        self.torn = 0  # bytes of an unfinished record that were cut off
        self._handle = handle
        self._replace_at = max(MIN_LOG + content.snapshot, 2 * content.snapshot)

    @classmethod
    def open(cls, path: Path) -> JournalFile:
        """Open a file and cut off its torn tail. Raises OSError, Damage, NewerFormat."""
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with open(handle, "rb", closefd=False) as stream:
                data = stream.read()
            content = decode_journal(data)
            found = cls(path, handle, content)
            found.torn = len(data) - content.end
            if found.torn:
                os.ftruncate(handle, content.end)
            sync_directory(path.parent)  # who made the file may have been killed just before this
        except BaseException:
            os.close(handle)
            raise
        return found

    @classmethod
    def create(cls, path: Path, entries: dict[tuple[str, str], bytes]) -> JournalFile:
        """Write a file that holds these entries in place of the one at `path`, if any. Raises OSError."""
        mark = secrets.token_bytes(MARK)
        data = encode_snapshot(entries, mark)
        unfinished = path.with_name(f"{path.name}.new")
        unfinished.unlink(missing_ok=True)
        handle = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write(handle, data, 0)
            os.fsync(handle)
            unfinished.replace(path)
            sync_directory(path.parent)
        except BaseException:
            os.close(handle)
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)  # gives a full disk its room back
            raise
        return cls(path, handle, Journal(mark, len(data), len(data), entries))

    def append(self, batch: StoreBatch) -> None:
        """Add a batch; on return it is on the disk. Raises OSError; the file is then as it was."""
        record = encode_batch(batch, self.content.mark)
        try:
            _write(self._handle, record, self.content.end)
            os.fdatasync(self._handle)
        except BaseException:
            # Should this fail too: the next record is written over what is left of this one.
            with suppress(OSError):
                os.ftruncate(self._handle, self.content.end)
            raise
        self.content.end += len(record)
        apply_batch(batch, self.content.entries)

    @property
    def is_long(self) -> bool:
        """Say whether a new snapshot would be worth its cost: half of the file or more is history."""
        return self.content.end >= self._replace_at

    @property
    def is_named(self) -> bool:
        """Say whether this is still the file at its path."""
        try:
            return os.path.samestat(os.fstat(self._handle), self.path.stat())
        except FileNotFoundError:
            return False

    def postpone(self) -> None:
        """Put a new snapshot off until the file has grown by as much again as is the least."""
        self._replace_at = self.content.end + MIN_LOG

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def _write(handle: int, data: bytes, at: int) -> None:
    """Write all of it; the system takes less than asked for on a disk that is nearly full, or over 2 GiB."""
    left = memoryview(data)
    while left:
        written = os.pwrite(handle, left, at)
        left, at = left[written:], at + written


def sync_directory(directory: Path) -> None:
    """Bring the names in a directory to the disk: a rename alone does not survive a power cut. fsync(2)"""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
