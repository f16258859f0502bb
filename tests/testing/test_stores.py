"""The fake store is held to the same check as the real one, and the check catches broken ones."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from kairos_core import StoreBatch
from kairos_core.testing.stores import MemoryStore, check_ledger_store


def test_the_memory_store_keeps_the_promises_of_a_ledger_store() -> None:
    disk: dict[tuple[str, str], bytes] = {}
    check_ledger_store(lambda: MemoryStore(disk))


class DropsDeletes(MemoryStore):
    def save(self, batch: StoreBatch) -> None:
        super().save(StoreBatch(put=batch.put))


class PutsBeforeItDeletes(MemoryStore):
    def save(self, batch: StoreBatch) -> None:
        super().save(StoreBatch(put=batch.put))
        super().save(StoreBatch(delete=batch.delete))


class SavesInParts(MemoryStore):
    def save(self, batch: StoreBatch) -> None:
        super().save(StoreBatch(delete=batch.delete))
        super().save(StoreBatch(put=batch.put))


class ForgetsTheBucket(MemoryStore):
    def save(self, batch: StoreBatch) -> None:
        put = tuple(("", key, signed) for _, key, signed in batch.put)
        super().save(StoreBatch(put, tuple(("", key) for _, key in batch.delete)))


class LoadsOnce(MemoryStore):
    def load(self) -> Iterable[bytes]:
        loaded = super().load()
        self._disk = {}
        return loaded


@pytest.mark.parametrize("broken", [DropsDeletes, PutsBeforeItDeletes, SavesInParts, ForgetsTheBucket, LoadsOnce])
def test_a_store_that_breaks_a_promise_is_caught(broken: type[MemoryStore]) -> None:
    disk: dict[tuple[str, str], bytes] = {}
    with pytest.raises(AssertionError):
        check_ledger_store(lambda: broken(disk))


def test_a_store_that_forgets_at_restart_is_caught() -> None:
    with pytest.raises(AssertionError, match="after a restart"):
        check_ledger_store(MemoryStore)
