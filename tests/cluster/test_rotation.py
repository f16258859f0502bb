"""Which join token is the newest, as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core import SecretStr
from kairos_core.cluster.rotation import JoinToken, newest, own_token
from kairos_core.model import PeerId

A, B, C = (PeerId(bytes([n]) * 32) for n in range(1, 4))


def token(text: str, rotation: int = 0) -> JoinToken:
    return JoinToken(SecretStr(text), rotation)


@given(st.text(min_size=1), st.integers(0, 999_999_999))
def test_what_is_sealed_is_read_again(text: str, rotation: int) -> None:
    sealed = token(text, rotation).encode()
    read = JoinToken.decode(sealed)
    assert read.encode() == sealed
    if rotation:
        assert read == token(text, rotation)


def test_a_token_that_was_never_rotated_is_sealed_as_it_is() -> None:
    assert token("K10ab::server:pw").encode() == "K10ab::server:pw"
    assert JoinToken.decode('{"controller": "a"}') == token('{"controller": "a"}')


@pytest.mark.parametrize("sealed", ["0\nK10", "-1\nK10", "1234567890\nK10", "K10\n1", "\n", "1"])
def test_what_has_no_number_that_counts_is_a_token_as_a_whole(sealed: str) -> None:
    assert JoinToken.decode(sealed) == token(sealed)


@pytest.mark.parametrize(
    ("before", "others", "number"),
    [
        (None, [], 0),  # the first master
        (None, [token("T1")], 0),  # a further one
        (token("T1"), [token("T1")], 0),  # nothing is new
        (token("T0"), [token("T0"), token("T0")], 1),  # rotated here
        (token("T0", 2), [token("T0", 2)], 3),  # and again
        (token("T0"), [token("T1", 1), token("T0")], 1),  # started with what another has rotated
        (token("T0", 1), [token("T1")], 2),  # rotated back to what another still has
        (token("T1", 1), [token("T0")], 1),
        (token("T1"), [token("T1", 1)], 1),
        (None, [token("T0", 4)], 0),  # an old disk numbers nothing
    ],
)
def test_a_master_numbers_its_own_token(before: JoinToken | None, others: list[JoinToken], number: int) -> None:
    assert own_token(SecretStr("T1"), before, others) == token("T1", number)


def test_the_last_rotation_wins_whoever_tells_of_it() -> None:
    assert newest({}, A, A) is None
    assert newest({A: token("a"), B: token("b", 1), C: token("c")}, A, A) == token("b", 1)
    assert newest({A: token("a", 1), B: token("b")}, A, A) == token("a", 1)


def test_among_equals_another_comes_before_us_and_the_initialiser_first() -> None:
    assert newest({A: token("a"), B: token("b"), C: token("c")}, A, C) == token("c")
    assert newest({A: token("a"), B: token("b"), C: token("c")}, B, B) == token("a")


def test_no_token_is_in_a_repr() -> None:
    assert "secret" not in repr(token("secret", 1))
