"""The ledger in a plain file, for one agent at a time.

    ledger.journal                 a snapshot, and each batch since (see journal.py)
    ledger.journal.new             the next one, while it is written
    ledger.journal.damaged-DATE    one that was not as it had been written
    ledger.lock                    held by the agent that uses the directory

A batch is on the disk (fdatasync) when `save` returns, so it survives a power cut too, and costs one write to the
disk. When half of the file is history, its content is written as a new snapshot and renamed into place.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kairos_core import LedgerStore, StoreBatch, StoreError
from kairos_store_files.file import JournalFile, sync_directory
from kairos_store_files.journal import FORMAT, Damage, NewerFormat

logger = logging.getLogger(__name__)

LOCK_WAIT = 5.0
"""Seconds to wait for the directory: an agent that is being replaced may need as long to close. Raising it delays
the message that a second agent runs on the same directory."""

_LOOK_AGAIN = 0.02


class FilesStore(LedgerStore):
    """Keeps the ledger in `directory/ledger.journal`. Opens nothing before the first call."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ledger.journal"
        self._file: JournalFile | None = None
        self._lock: int | None = None

    def load(self) -> list[bytes]:
        """Return all saved entries. Raises StoreError.

        A damaged file is set aside as `ledger.journal.damaged-DATE`, and the error says so; the next call returns
        the entries of all that was whole in it.
        """
        with self._explained("read", damaged=self._set_aside):
            return list(self._open().content.entries.values())

    def save(self, batch: StoreBatch) -> None:
        """Save a batch: all of it or nothing. Raises StoreError; the same batch may be saved again."""
        with self._explained("saved", damaged=self._advise_restart):
            file = self._open()
            if batch.put or batch.delete:
                file.append(batch)
            if file.is_long:
                self._shorten(file)

    def close(self) -> None:
        """Release the files; a later call opens them again."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open(self) -> JournalFile:
        if self._lock is None:
            self._lock = self._take_lock()
        if self._file is None:
            self._file = JournalFile.open(self.path) if self.path.exists() else JournalFile.create(self.path, {})
            if self._file.torn:
                logger.warning(
                    "torn tail: the ledger %s ended in %d bytes of a batch that was not finished when the agent was "
                    "killed. They were cut off; nothing that was acknowledged is lost.",
                    self.path,
                    self._file.torn,
                )
        elif not self._file.is_named:
            # Somebody removed it under the running agent. What went there now would be gone at the next start.
            return self._replace(self._file)
        return self._file

    def _replace(self, file: JournalFile) -> JournalFile:
        self._file = JournalFile.create(self.path, file.content.entries)
        file.close()
        return self._file

    def _shorten(self, file: JournalFile) -> None:
        """Replace the file by one without history. What was to be saved is saved already: no failure counts."""
        try:
            self._replace(file)
        except OSError as error:
            logger.warning("the ledger %s cannot be shortened, and grows: %s", self.path, self._cause(error))
            file.postpone()

    def _take_lock(self) -> int:
        """Hold the directory. A lock on the journal would be lost with the first new one."""
        handle = os.open(self.path.with_name("ledger.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up = time.monotonic() + LOCK_WAIT
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return handle
                except BlockingIOError:
                    if time.monotonic() > give_up:
                        raise
                time.sleep(_LOOK_AGAIN)
        except BaseException:
            os.close(handle)
            raise

    @contextmanager
    def _explained(self, done: str, damaged: Callable[[Damage], StoreError]) -> Iterator[None]:
        """Turn what the file and the disk say into a StoreError that says what to do."""
        try:
            try:
                yield
            except Damage as damage:
                raise damaged(damage) from None
        except NewerFormat as newer:
            raise StoreError(
                f"{self.path} has format {newer.version}, written by a newer kairos-store-files; this one knows "
                f"up to {FORMAT}. Install the newer one again, or move the file away: peers refill it."
            ) from None
        except OSError as error:
            raise StoreError(f"the ledger cannot be {done}: {self._cause(error)}") from error

    def _cause(self, error: OSError) -> str:
        directory = self.path.parent
        if isinstance(error, BlockingIOError):
            return f"another process holds {directory}. Stop the second agent that runs on this directory."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(directory).free
            return f"the disk of {directory} is full ({free} bytes free). Free some space on it."
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"{error.strerror}: {directory}. Make it writable for the agent."
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return f"{error.strerror}: {directory}."
        return f"{error.strerror}: {self.path}. Look for disk errors in the kernel log (dmesg)."

    def _set_aside(self, damage: Damage) -> StoreError:
        """Keep the damaged file under another name, and put one with what was rescued in its place.

        In this order: killed in between, the next start finds the damage again, and never nothing at all.
        """
        aside = self._free_name(time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime()))
        try:
            _copy(self.path, aside)
            self._file = JournalFile.create(self.path, damage.entries)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        rescued = len(damage.entries)
        goes_on = f"{rescued} entries that are whole" if rescued else "an empty ledger"
        return StoreError(
            f"the ledger {self.path} is damaged ({damage}) and was set aside as {aside.name}. "
            f"The agent goes on with {goes_on}; its peers refill the rest. Check the disk."
        )

    def _free_name(self, date: str) -> Path:
        aside = self.path.with_name(f"{self.path.name}.damaged-{date}")
        number = 2
        while aside.exists():
            aside = self.path.with_name(f"{self.path.name}.damaged-{date}-{number}")
            number += 1
        return aside

    def _advise_restart(self, damage: Damage) -> StoreError:
        return StoreError(
            f"the ledger {self.path} is damaged ({damage}). Restart the agent: it sets the file aside and goes on "
            "with what is whole in it and what its peers hold."
        )


def _copy(source: Path, target: Path) -> None:
    """Give a file a second name, or a second copy on a disk that knows no links."""
    try:
        os.link(source, target)
    except OSError:
        handle = os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with source.open("rb") as whole, open(handle, "wb") as copy:
            shutil.copyfileobj(whole, copy)
            copy.flush()
            os.fsync(copy.fileno())
    sync_directory(target.parent)
