"""Kairos ledger storage in a plain file, `ledger.journal`: a snapshot, and the batches saved since."""

from kairos_core import LedgerStore, Register, hookimpl
from kairos_store_files.store import FilesStore

__all__ = ["FilesStore", "register_ledger_store"]


@hookimpl
def register_ledger_store(register: Register[LedgerStore]) -> None:
    """Offer the store `files`."""
    register("files", FilesStore)
