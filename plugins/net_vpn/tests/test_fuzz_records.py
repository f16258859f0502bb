"""Records of hostile members in any order, and all inputs that the fuzzer kept: see fuzz/ for moves and promises."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kairos_net_vpn.drops import Refused

FUZZ = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FUZZ))
hostile: Any = import_module("hostile")
surfaces: Any = import_module("surfaces")
frames: Any = import_module("frames")

LIKELY = st.integers(0, 7) | st.integers(0, 255)
"""A choice: the first options of each are the usual ones."""
MOVES = st.lists(LIKELY, min_size=1, max_size=300).map(bytes)


@settings(max_examples=150, deadline=None)
@given(MOVES)
@example(b"")
def test_whatever_members_seal_and_strangers_alter_nothing_foreign_comes_out(moves: bytes) -> None:
    hostile.attack(moves)


@pytest.mark.parametrize("file", sorted((FUZZ / "corpus").iterdir()), ids=lambda file: file.name)
def test_the_fuzzers_corpus_is_borne(file: Path) -> None:
    surfaces.play(file.read_bytes())


def test_the_inputs_of_the_fuzzer_reach_the_device_and_the_socket() -> None:
    """A harness in which all is refused would find nothing."""
    reached: set[str] = set()
    for file in sorted((FUZZ / "corpus").iterdir()):
        surface, *moves = file.read_bytes()
        if surfaces.SURFACES[surface % len(surfaces.SURFACES)] is not hostile.attack:
            continue
        attack = hostile.Attack(bytes(moves))
        attack.run()
        reached |= attack.victim.reached
    assert reached == {"packets", "super-packets", "relayed", "answered"}


def test_the_oracle_tells_what_nobody_sealed() -> None:
    packet = b"\x45\0\0\x1e" + bytes(4) + b"\x40\xfd\0\0" + b"\x0a\1\0\1\x0a\1\0\x09"
    frame = bytes(10) + packet + b"ABCDEFGHIJ"
    assert frames.is_made_of(frame, [b"xx" + frame])
    assert frames.is_made_of(frame, [b"ABCDE", b"FGHIJ"])
    assert not frames.is_made_of(frame, [b"ABCDE", b"FGHI"])
    assert not frames.is_made_of(frame, [])
    assert frames.check_frame(frame) == (b"\x0a\1\0\1", b"\x0a\1\0\x09")
    for broken in (frame[:-1], frame[:29], bytes(10) + b"\x55" + frame[11:], b"\0\1" + frame[2:], b"\1" + frame[1:]):
        with pytest.raises((AssertionError, Refused)):
            frames.check_frame(broken)
