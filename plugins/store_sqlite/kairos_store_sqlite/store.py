"""The ledger in one SQLite file.

    entry (bucket text, key text, signed blob)      primary key (bucket, key)

WAL with synchronous=NORMAL: a saved batch survives kill -9 of the agent. A power cut may take the last
batches, never a part of one; peers hold them too and give them back. The file appears under its name only
when it is complete, so an empty or headless `ledger.db` is always damage, never a beginning.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kairos_core import LedgerStore, StoreBatch, StoreError

FORMAT = 1
"""The version of the layout (SQLite's user_version). A newer one is refused, not guessed at."""

APPLICATION = 0x4B616972
"""SQLite's application_id, `Kair`: tells our file from another program's."""

LOCK_WAIT = 5.0
"""Seconds to wait for the file: an agent that is being replaced may need as long to close. Raising it delays
the message that a second agent runs on the same directory."""

_CREATE = f"""
    begin;
    create table entry (
        bucket text not null, key text not null, signed blob not null, primary key (bucket, key)
    );
    pragma application_id = {APPLICATION};
    pragma user_version = {FORMAT};
    commit;
"""


class SqliteStore(LedgerStore):
    """Keeps the ledger in `directory/ledger.db`. Opens nothing before the first call."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ledger.db"
        self._connection: sqlite3.Connection | None = None

    def load(self) -> list[bytes]:
        """Return all saved entries. Raises StoreError.

        A damaged file is set aside as `ledger.db.damaged-DATE`, and the error says so; the next call begins
        with an empty ledger, which the peers refill.
        """
        with self._explained("read", damaged=self._set_aside):
            connection = self._open()
            (verdict,) = connection.execute("pragma quick_check(1)").fetchone()
            if verdict != "ok":
                raise _Damage(" ".join(verdict.split()))
            # SQLite has no checksum of contents: an altered entry is found by its signature.
            return [bytes(signed) for (signed,) in connection.execute("select cast(signed as blob) from entry")]

    def save(self, batch: StoreBatch) -> None:
        """Save a batch: all of it or nothing. Raises StoreError; the same batch may be saved again."""
        with self._explained("saved", damaged=self._advise_restart):
            connection = self._open()
            try:
                connection.execute("begin immediate")
                connection.executemany("delete from entry where bucket = ? and key = ?", batch.delete)
                connection.executemany("insert or replace into entry values (?, ?, ?)", batch.put)
                connection.execute("commit")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite has rolled back by itself after a full disk
                    connection.execute("rollback")
                raise

    def close(self) -> None:
        """Release the file; a later call opens it again."""
        if self._connection is not None:
            with suppress(sqlite3.Error):  # the checkpoint at closing is only for tidiness: the WAL has it all
                self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            if not self.path.exists():
                self._create()
            connection = _connect(self.path)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Exclusive: two agents on one state directory would take each other's place in the network.
        connection.execute("pragma locking_mode = exclusive")
        self._check_format(connection)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        connection.execute("begin immediate")
        connection.execute("commit")

    def _create(self) -> None:
        """Make a complete file and move it to its name; 0600, which SQLite's side files inherit."""
        unfinished = self.path.with_name("ledger.db.new")
        unfinished.unlink(missing_ok=True)
        # Left behind where a killed agent's file was moved away; SQLite would play them into the new one.
        for suffix in ("-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection = _connect(unfinished)
        try:
            connection.executescript(_CREATE)
        finally:
            connection.close()
        unfinished.replace(self.path)

    def _check_format(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("pragma application_id").fetchone()
        (version,) = connection.execute("pragma user_version").fetchone()
        if not application and not version:
            raise _Damage("the file has no header")
        if application != APPLICATION:
            raise StoreError(f"{self.path} is the database of another program. Move it away and start again.")
        if version > FORMAT:
            raise StoreError(
                f"{self.path} has format {version}, written by a newer kairos-store-sqlite; this one knows "
                f"up to {FORMAT}. Install the newer one again, or move the file away: peers refill it."
            )

    @contextmanager
    def _explained(self, done: str, damaged: Callable[[str], StoreError]) -> Iterator[None]:
        """Turn what SQLite and the disk say into a StoreError that says what to do."""
        try:
            yield
        except _Damage as damage:
            raise damaged(str(damage)) from None
        except UnicodeDecodeError as error:  # SQLite quotes the damaged bytes in what it says
            raise damaged("it holds text that is not text") from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise damaged(str(error)) from error
            raise StoreError(f"the ledger cannot be {done}: {self._cause(code, error)}") from error
        except OSError as error:
            raise StoreError(f"the ledger cannot be {done}: {error.strerror}: {self.path}.") from error

    def _cause(self, code: int, error: sqlite3.Error) -> str:
        directory = self.path.parent
        if code == sqlite3.SQLITE_FULL:
            free = shutil.disk_usage(directory).free
            return f"the disk of {directory} is full ({free} bytes free). Free some space on it."
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"another process holds {self.path}. Stop the second agent that runs on this directory."
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return f"{error}: {self.path}. Make {directory} writable for the agent."
        return f"{error}: {self.path}. Look for disk errors in the kernel log (dmesg)."

    def _set_aside(self, why: str) -> StoreError:
        self.close()
        aside = self._free_name(time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime()))
        for suffix in ("-wal", "-shm", ""):
            side = Path(f"{self.path}{suffix}")
            if side.exists():
                side.rename(f"{aside}{suffix}")
        return StoreError(
            f"the ledger {self.path} is damaged ({why}) and was set aside as {aside.name}. "
            "The agent goes on with an empty ledger, which its peers refill; check the disk."
        )

    def _free_name(self, date: str) -> Path:
        aside = self.path.with_name(f"ledger.db.damaged-{date}")
        number = 2
        while aside.exists():
            aside = self.path.with_name(f"ledger.db.damaged-{date}-{number}")
            number += 1
        return aside

    def _advise_restart(self, why: str) -> StoreError:
        self.close()
        return StoreError(
            f"the ledger {self.path} is damaged ({why}). Restart the agent: it sets the file aside and "
            "begins anew with what its peers hold."
        )


class _Damage(Exception):
    """The file is not what we wrote."""


def _connect(path: Path) -> sqlite3.Connection:
    # The node calls from one thread at a time, not always the same one. mode=rw never creates the file.
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=LOCK_WAIT,
        isolation_level=None,
        check_same_thread=False,
    )
