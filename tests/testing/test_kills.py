"""The proof of kills catches stores that lose, tear or forget; a store that keeps its word passes it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from kairos_core.testing.kills import KEYS, batch_of, check_survives_kills

pytestmark = pytest.mark.system

STORES = """
    import os, pickle
    from kairos_core.interfaces import LedgerStore

    class Whole(LedgerStore):
        '''Writes everything anew for each batch, and renames it into place.'''

        def __init__(self, directory):
            self.path = directory / "ledger"
            self.content = None

        def load(self):
            if self.content is None:
                self.content = pickle.loads(self.path.read_bytes()) if self.path.exists() else {}
            return list(self.content.values())

        def save(self, batch):
            self.load()
            for place in batch.delete:
                self.content.pop(place, None)
            self.content.update({(bucket, key): signed for bucket, key, signed in batch.put})
            self.write()

        def write(self):
            unfinished = self.path.with_suffix(".new")
            unfinished.write_bytes(pickle.dumps(self.content))
            unfinished.replace(self.path)

        def close(self):
            pass

    class Lazy(Whole):
        '''Acknowledges what it writes with the batch after the next.'''

        waiting = 0

        def write(self):
            self.waiting += 1
            if self.waiting == 3:
                self.waiting = 0
                super().write()

    class Tearing(Whole):
        '''Saves the two halves of a batch one after the other.'''

        def save(self, batch):
            half = len(batch.put) // 2
            super().save(type(batch)(put=batch.put[:half], delete=batch.delete))
            super().save(type(batch)(put=batch.put[half:]))

    class InPlace(Whole):
        '''Overwrites the file.'''

        def write(self):
            self.path.write_bytes(pickle.dumps(self.content))

    class Failing(Whole):
        def write(self):
            raise OSError("the disk is on fire")
"""


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Give a function that names a store in a module that this process and those it starts can import."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "kairos_test_stores.py").write_text(dedent(STORES))
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(str(site))
    yield lambda name: f"kairos_test_stores:{name}"
    sys.modules.pop("kairos_test_stores", None)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The place of a store, empty."""
    place = tmp_path / "store"
    place.mkdir()
    return place


def test_a_store_that_keeps_its_word_passes(stores: Callable[[str], str], directory: Path) -> None:
    assert check_survives_kills(stores("Whole"), directory, kills=20) > 20


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("Lazy", AssertionError, "are lost"),
        ("Tearing", AssertionError, "is there in part"),
        ("InPlace", (EOFError, pickle.UnpicklingError), "truncated|out of input"),  # half a file: in its own words
    ],
)
def test_a_store_that_breaks_its_word_is_caught(
    name: str, error: type[Exception], said: str, stores: Callable[[str], str], directory: Path
) -> None:
    with pytest.raises(error, match=said):
        check_survives_kills(stores(name), directory)


def test_a_store_that_fails_by_itself_does_not_pass_for_killed(
    stores: Callable[[str], str], directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError, match=r"ended by itself after batch -1: 'ended 1\\n'; its stderr says why"):
        check_survives_kills(stores("Failing"), directory, kills=20)
    assert "the disk is on fire" in capfd.readouterr().err


def test_a_lost_entry_is_named_with_the_seed(stores: Callable[[str], str], directory: Path) -> None:
    with pytest.raises(AssertionError, match=r"seed 7\).* acknowledged entries are lost, such as b'batch \d+"):
        check_survives_kills(stores("Lazy"), directory, seed=7)


def test_the_batches_write_forget_and_write_again() -> None:
    batches = [batch_of(number) for number in range(1000)]
    assert batches == [batch_of(number) for number in range(1000)]
    assert {len(batch.delete) for batch in batches} == {0, 1, 2}
    assert len({place for batch in batches for place in batch.delete}) == KEYS
    assert all(batch.put for batch in batches)
