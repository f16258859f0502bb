"""For authors of ledger stores: the proof that `kill -9` at any moment loses nothing that was acknowledged.

def test_no_acknowledged_batch_is_lost(tmp_path):
    check_survives_kills("my_package:MyStore", tmp_path)

A process of its own saves batches without a pause, and writes the number of each into a pipe when `save` has
returned. What batch N changes follows from N alone, so whoever knows the last number knows the content.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NoReturn, TypeAlias

from kairos_core.interfaces import LedgerStore, StoreBatch

KEYS = 120
"""Keys that are written again and again. More of them make the store larger, and its snapshots rarer."""

BATCHES = 40
"""Batches that a writer saves at most before its end is near; a fifth of them save none, and die while they start."""

AGONY = 0.01
"""Seconds until the kill after that, at most. Short beside the time of a few batches, or all die in the same one."""

Content: TypeAlias = dict[tuple[str, str], bytes]


def check_survives_kills(factory: str, directory: Path, kills: int = 200, seed: int | None = None) -> int:
    """Kill a writer this many times at random moments, and load after each. Returns the batches acknowledged.

    `factory` names the store as an entry point does (`package.module:Class`); it is called with `directory`, at
    first empty. After each kill the store must hold exactly what the acknowledged batches left, or that and the
    whole of the one batch that was under way. Raises AssertionError that says what is lost, and the seed of the
    moments; StoreError when the store cannot be loaded.
    """
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    moments = random.Random(seed)
    expected: Content = {}
    following = 0
    with _nursery(factory, directory) as last_acknowledged:
        for kill in range(1, kills + 1):
            batches = moments.randrange(-BATCHES // 4, BATCHES)
            last = last_acknowledged(following, batches, moments.uniform(0, AGONY))
            for number in range(following, last + 1):
                _apply(batch_of(number), expected)
            following = last + 1
            where = f"after kill {kill} of {kills} (seed {seed}), when batch {last} was the last acknowledged"
            following += _settle(_loaded(factory, directory), expected, following, where)
    return following


def batch_of(number: int) -> StoreBatch:
    """Return what batch N changes: some entries new, some again, some forgotten; sizes as in a ledger."""
    draw = random.Random(number)
    places = draw.sample([(f"bucket {key % 3}", str(key)) for key in range(KEYS)], 8)
    put = places[: draw.randint(1, 6)]
    size = draw.choice((1, 10, 10, 100, 1000))
    return StoreBatch(
        put=tuple((bucket, key, f"batch {number}, {key}; ".encode() * size) for bucket, key in put),
        delete=tuple(places[6 : 6 + draw.randint(0, 2)]),
    )


def _apply(batch: StoreBatch, content: Content) -> None:
    for place in batch.delete:
        content.pop(place, None)
    content.update({(bucket, key): signed for bucket, key, signed in batch.put})


def _settle(found: list[bytes], expected: Content, following: int, where: str) -> int:
    """Compare. The batch that was under way may be there as a whole; it then counts as saved, and 1 is returned."""
    if sorted(found) == sorted(expected.values()):
        return 0
    acknowledged = set(expected.values())
    _apply(batch_of(following), expected)
    lost = sorted(signed[:40] for signed in (acknowledged & set(expected.values())) - set(found))
    assert not lost, f"{where}, {len(lost)} acknowledged entries are lost, such as {lost[0]!r}"
    assert sorted(found) == sorted(expected.values()), (
        f"{where}, batch {following} is there in part, or old entries are"
    )
    return 1


def _loaded(factory: str, directory: Path) -> list[bytes]:
    store = _factory(factory)(directory=directory)
    try:
        return list(store.load())
    finally:
        store.close()


def _factory(name: str) -> Callable[..., LedgerStore]:
    module, _, attribute = name.partition(":")
    found: Callable[..., LedgerStore] = getattr(import_module(module), attribute)
    return found


# -- the process that is killed -----------------------------------------------------------------------------------


@contextmanager
def _nursery(factory: str, directory: Path) -> Iterator[Callable[[int, int, float], int]]:
    """Start a process that forks the writers: so each costs milliseconds, and not a start of Python.

    Gives a function that lets a writer begin with a batch, has it killed some seconds after it has saved so many,
    and returns the last that it acknowledged (the one before its first, if it came to none).
    """
    argv = [sys.executable, "-m", __name__, factory, str(directory)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        orders, answers = nursery.stdin, nursery.stdout

        def last_acknowledged(first: int, batches: int, seconds: float) -> int:
            print(first, file=orders, flush=True)
            last, line = first - 1, "\n"
            while last - first + 1 < batches and line[:-1] in ("", str(last)):
                line = answers.readline()
                last += line == f"{last + 1}\n"
            time.sleep(seconds)
            print("kill", file=orders, flush=True)
            while line and not line.startswith("ended"):
                line = answers.readline()
                # The last line may be a piece of the number that it was killed over.
                last += line.strip() == str(last + 1)
            killed = f"ended {-signal.SIGKILL}\n"
            assert line == killed, f"the writer ended by itself after batch {last}: {line!r}; its stderr says why"
            return last

        yield last_acknowledged


def _raise_writers(factory: Callable[..., LedgerStore], directory: Path) -> None:
    """Fork a writer for each number that comes in, and kill it at the next line, or when nobody is there any more."""
    for first in sys.stdin:
        pid = os.fork()
        if not pid:
            _write(factory, directory, int(first))
        sys.stdin.readline()
        os.kill(pid, signal.SIGKILL)
        print("\nended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _write(factory: Callable[..., LedgerStore], directory: Path, first: int) -> NoReturn:
    try:
        store = factory(directory=directory)
        for number in itertools.count(first):
            store.save(batch_of(number))
            print(number, flush=True)
    except BaseException:
        traceback.print_exc()
        print("failed", flush=True)  # who waits for the next number learns that there is none
    os._exit(1)


if __name__ == "__main__":
    _raise_writers(_factory(sys.argv[1]), Path(sys.argv[2]))
