"""Which token k3s starts with next, as values."""

from __future__ import annotations

import pytest
from kairos_engine_k3s.tokens import Memory, authority, next_token, password, shared_token

HASH, OTHER = "a" * 64, "b" * 64


def full(secret: str, digest: str = HASH) -> str:
    return f"K10{digest}::server:{secret}"


def test_a_token_is_a_secret_and_perhaps_the_hash_of_an_authority() -> None:
    assert (password(full("T:0")), authority(full("T:0"))) == ("T:0", HASH)
    for short in ("T0", "K10abc", "K10abc::server:pw", ""):
        assert (password(short), authority(short)) == (short, "")


@pytest.mark.parametrize(
    ("given", "found", "memory", "token"),
    [
        ("", full("T0"), Memory(), ""),  # no network gives one: k3s reads its own
        ("T0", "", Memory(), "T0"),  # the first start
        ("T0", full("T0"), Memory("T0", "", "T0"), "T0"),  # an agent that starts again
        ("T0", full("T1"), Memory("T0", full("T0"), "T0"), full("T1")),  # rotated here, and nobody has told us
        ("T0", full("T1"), Memory("T0", full("T1"), full("T1")), full("T1")),  # and still nobody has
        (full("T1"), full("T1"), Memory("T0", full("T1"), full("T1")), full("T1")),  # now they have
        (full("T1"), full("T0"), Memory("T0", full("T0"), "T0"), full("T1")),  # rotated elsewhere
        (full("T1"), full("T0"), Memory("T0", "", "T0"), full("T1")),
        (full("T1"), full("T0"), Memory(full("T1"), full("T0"), full("T1")), full("T1")),  # not yet started with it
        (full("T1"), full("T1"), Memory(full("T1"), full("T0"), full("T1")), full("T1")),  # started with it
        (full("T1"), full("T2"), Memory(full("T1"), full("T1"), full("T1")), full("T2")),
        (full("T2"), full("T0"), Memory(full("T1"), full("T0"), full("T1")), full("T2")),
        (full("T0", OTHER), full("T0"), Memory(full("T0"), full("T0"), full("T0")), full("T0", OTHER)),
        (full("T0"), "", Memory("", "", ""), full("T0")),
    ],
)
def test_what_has_moved_last_wins(given: str, found: str, memory: Memory, token: str) -> None:
    assert next_token(given, found, memory) == token


@pytest.mark.parametrize(
    ("found", "memory", "token"),
    [
        (full("T0"), Memory(), full("T0")),
        (full("T0"), Memory("T0", full("T0"), "T0"), full("T0")),
        (full("T0"), Memory(full("T1"), full("T0"), full("T1")), full("T1")),  # told, and not yet started with
        (full("T2"), Memory(full("T1"), full("T0"), full("T1")), full("T2")),  # rotated here meanwhile
        (full("T0"), Memory("T1", full("T0"), "T1"), full("T0")),  # without the authority nobody could check it
    ],
)
def test_others_are_told_what_holds_at_the_next_start(found: str, memory: Memory, token: str) -> None:
    assert shared_token(found, memory) == token


def test_a_memory_is_read_as_it_was_written_and_a_damaged_one_is_none() -> None:
    memory = Memory("a", "b", "c", "d")
    assert Memory.decode(memory.encode()) == memory
    for damaged in (None, "", "{", "[]", "{}", '{"given": "a"}', "null"):
        assert Memory.decode(damaged) == Memory()


def test_no_token_is_shown() -> None:
    assert "hush" not in repr(Memory("hush-1", "hush-2", "hush-3", "https://hush:6443"))
