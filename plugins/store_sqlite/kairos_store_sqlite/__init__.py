"""Kairos ledger storage in SQLite: one file, `ledger.db`, in the agent's state directory."""

from kairos_core import LedgerStore, Register, hookimpl
from kairos_store_sqlite.store import SqliteStore

__all__ = ["SqliteStore", "register_ledger_store"]


@hookimpl
def register_ledger_store(register: Register[LedgerStore]) -> None:
    """Offer the store `sqlite`."""
    register("sqlite", SqliteStore)
