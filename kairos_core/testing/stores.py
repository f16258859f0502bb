"""For authors of ledger stores: the check that every store passes, and one that keeps its entries in memory.

def test_my_store_keeps_its_promises(tmp_path):
    check_ledger_store(lambda: MyStore(directory=tmp_path))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kairos_core.interfaces import LedgerStore, StoreBatch


class MemoryStore(LedgerStore):
    """Keeps the ledger for as long as `disk` lives: hand the same dict to the next one to play a restart."""

    def __init__(self, disk: dict[tuple[str, str], bytes] | None = None) -> None:
        self._disk = {} if disk is None else disk

    def load(self) -> Iterable[bytes]:
        return list(self._disk.values())

    def save(self, batch: StoreBatch) -> None:
        # Copied first, so that a batch that cannot be read to its end changes nothing.
        put = {(bucket, key): bytes(signed) for bucket, key, signed in batch.put}
        for where in batch.delete:
            self._disk.pop(where, None)
        self._disk.update(put)

    def close(self) -> None:
        pass


def check_ledger_store(make: Callable[[], LedgerStore]) -> None:
    """Check the promises of LedgerStore. Raises AssertionError that says which one is broken.

    `make` returns a store over the same place at each call, at first empty: what one saved, the next loads.
    What the check cannot see from here is yours to test: kill -9, a full disk, a damaged file.
    """
    for check in (_check_empty, _check_restart, _check_replace, _check_delete, _check_odd, _check_atomic):
        check(make)
        _forget_all(make)
    _check_many(make)
    _forget_all(make)


def _saved(make: Callable[[], LedgerStore], *batches: StoreBatch) -> list[bytes]:
    """Save batches, close, and return what a new store loads."""
    store = make()
    try:
        for batch in batches:
            store.save(batch)
    finally:
        store.close()
    return _loaded(make)


def _loaded(make: Callable[[], LedgerStore]) -> list[bytes]:
    store = make()
    try:
        return sorted(store.load())
    finally:
        store.close()


_KEYS: list[tuple[str, str]] = [
    ("role", "a"),
    ("role", "b"),
    ("roles", "a"),
    ("", ""),
    ("über", "ключ \0 \n'\"; --"),
    ("long", "k" * 4096),
    *(("many", f"{number:04}") for number in range(1000)),
]


def _forget_all(make: Callable[[], LedgerStore]) -> None:
    assert _saved(make, StoreBatch(delete=tuple(_KEYS))) == [], "deleting every key must leave nothing"


def _check_empty(make: Callable[[], LedgerStore]) -> None:
    store = make()
    assert list(store.load()) == [], "a store over an empty place must load nothing"
    store.save(StoreBatch())
    store.save(StoreBatch(delete=(("role", "a"),)))
    assert list(store.load()) == [], "an empty batch and deleting an absent key must change nothing"
    store.close()
    store.close()  # a node that stops twice must not fail


def _check_restart(make: Callable[[], LedgerStore]) -> None:
    batch = StoreBatch(put=(("role", "a", b"1"), ("role", "b", b"2"), ("roles", "a", b"3")))
    assert _saved(make, batch) == [b"1", b"2", b"3"], "what was saved must be loaded after a restart"
    store = make()
    store.save(StoreBatch(put=(("role", "a", b"4"),)))
    for _ in range(2):
        loaded = sorted(store.load())
        assert loaded == [b"2", b"3", b"4"], "what was saved must be loaded by the same store too, each time"
    store.close()


def _check_replace(make: Callable[[], LedgerStore]) -> None:
    first, second = StoreBatch(put=(("role", "a", b"old"),)), StoreBatch(put=(("role", "a", b"new"),))
    assert _saved(make, first, second) == [b"new"], "a later entry of the same bucket and key must replace"
    twice = StoreBatch(put=(("role", "a", b"x"), ("role", "a", b"y")))
    assert _saved(make, twice) == [b"y"], "of two entries for one key in a batch the later must stay"


def _check_delete(make: Callable[[], LedgerStore]) -> None:
    put = StoreBatch(put=(("role", "a", b"1"), ("role", "b", b"2"), ("roles", "a", b"3")))
    assert _saved(make, put, StoreBatch(delete=(("role", "a"),))) == [b"2", b"3"], "one key must be deleted"
    both = StoreBatch(put=(("role", "b", b"4"),), delete=(("role", "b"),))
    assert _saved(make, both) == [b"3", b"4"], "a key both deleted and put in one batch must be put"


def _check_odd(make: Callable[[], LedgerStore]) -> None:
    odd = (
        ("", "", b""),
        ("über", "ключ \0 \n'\"; --", bytes(range(256))),
        ("long", "k" * 4096, b"v" * 65536),
    )
    assert _saved(make, StoreBatch(put=odd)) == sorted(signed for *_, signed in odd), (
        "any text must do as bucket and key, any bytes as entry"
    )


def _check_atomic(make: Callable[[], LedgerStore]) -> None:
    store = make()
    store.save(StoreBatch(put=(("role", "a", b"1"),)))
    no_bytes: Any = None
    broken = StoreBatch(put=(("role", "b", b"2"), ("role", "c", no_bytes)), delete=(("role", "a"),))
    try:
        store.save(broken)
    except Exception:  # which error is the store's choice: the batch breaks the contract
        store.close()
    else:
        raise AssertionError("a batch with an entry that is not bytes must be refused")
    assert _loaded(make) == [b"1"], "a batch that fails must change nothing"


def _check_many(make: Callable[[], LedgerStore]) -> None:
    put = tuple((bucket, key, key.encode()) for bucket, key in _KEYS[-1000:])
    assert len(_saved(make, StoreBatch(put=put))) == 1000, "a batch of a thousand entries must be saved whole"
