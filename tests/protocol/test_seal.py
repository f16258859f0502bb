"""Seals: what is sealed is opened by whom it is for, and everything else is a ProtocolError with its name."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kairos_core import ProtocolError
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.seal import OVERHEAD, DatagramSeal, nonce_of, open_sealed, seal_to
from kairos_core.protocol.token import new_token

NOON = 1_800_001_800.0
NONCE = bytes(range(12))


def seal_at(unix_now: float, seed: int = 1) -> DatagramSeal:
    seal = DatagramSeal()
    seal.use(Keyring(new_token(random.Random(seed).choice)).accepted(unix_now))
    return seal


def drop_of(seal: DatagramSeal, datagram: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        seal.open(datagram)
    return caught.value.drop


@given(st.binary(min_size=1, max_size=1200), st.binary(min_size=12, max_size=12))
def test_what_is_sealed_is_opened(plaintext: bytes, nonce: bytes) -> None:
    datagram = seal_at(NOON).seal(plaintext, nonce)
    assert len(datagram) == len(plaintext) + OVERHEAD
    assert nonce_of(datagram) == nonce
    assert seal_at(NOON).open(datagram) == plaintext


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_neighbouring_epochs_open_it(skew: float) -> None:
    assert seal_at(NOON + skew).open(seal_at(NOON).seal(b"hello", NONCE)) == b"hello"


@pytest.mark.parametrize("skew", [-7200, 7200, -NOON])
def test_distant_epochs_do_not(skew: float) -> None:
    assert drop_of(seal_at(NOON + skew), seal_at(NOON).seal(b"hello", NONCE)) == Drop.UNKNOWN_KEY


def test_a_dead_clock_is_heard_under_the_join_key() -> None:
    ring = Keyring(new_token(random.Random(1).choice))
    joining = DatagramSeal()
    joining.use((ring.key(None),))
    assert seal_at(NOON).open(joining.seal(b"let me in", NONCE)) == b"let me in"


def test_a_stranger_with_another_token_is_an_unknown_key() -> None:
    assert drop_of(seal_at(NOON), seal_at(NOON, seed=2).seal(b"hello", NONCE)) == Drop.UNKNOWN_KEY


def test_a_seal_follows_the_rotation() -> None:
    ring = Keyring(new_token(random.Random(1).choice))
    seal = DatagramSeal()
    seal.use(ring.accepted(NOON))
    first = seal.seal(b"x", NONCE)
    seal.use(ring.accepted(NOON + 3600))
    assert seal.seal(b"x", NONCE) != first
    assert seal.open(first) == b"x"
    seal.use(ring.accepted(NOON + 7200))
    assert drop_of(seal, first) == Drop.UNKNOWN_KEY


@given(st.integers(0, OVERHEAD))
def test_a_datagram_without_room_for_contents_is_truncated(length: int) -> None:
    assert drop_of(seal_at(NOON), seal_at(NOON).seal(b"hello", NONCE)[:length]) == Drop.TRUNCATED


@given(cut=st.integers(1, 1000))
def test_a_cut_datagram_is_refused_by_name(cut: int) -> None:
    datagram = seal_at(NOON).seal(bytes(500), NONCE)
    shorter = datagram[: -(cut % len(datagram)) or len(datagram)]
    if shorter != datagram:
        assert drop_of(seal_at(NOON), shorter) in (Drop.TRUNCATED, Drop.UNSEAL)


@given(st.integers(0, 10_000))
def test_one_flipped_bit_is_refused_by_name(bit: int) -> None:
    datagram = bytearray(seal_at(NOON).seal(b"the contents", NONCE))
    bit %= len(datagram) * 8
    datagram[bit // 8] ^= 1 << bit % 8
    expected = Drop.VERSION if bit < 8 else Drop.UNKNOWN_KEY if bit < 40 else Drop.UNSEAL
    assert drop_of(seal_at(NOON), bytes(datagram)) == expected


@given(st.binary(max_size=1500))
@example(bytes([1]) + bytes(100))
def test_random_bytes_are_refused(datagram: bytes) -> None:
    assert drop_of(seal_at(NOON), datagram) in (Drop.TRUNCATED, Drop.VERSION, Drop.UNKNOWN_KEY)


ALICE, BOB, EVE = (Identity(bytes([n]) * 32) for n in (1, 2, 3))
RANDOM = bytes(range(64))


def public(identity: Identity) -> bytes:
    return identity.exchange_key("seal").public_key().public_bytes_raw()


def sealed(plaintext: bytes = b"join token") -> dict[str, object]:
    return seal_to({"alice": public(ALICE), "bob": public(BOB)}, plaintext, b"secret/join", RANDOM)


@given(st.binary(max_size=4096))
def test_each_recipient_opens_a_sealed_secret(plaintext: bytes) -> None:
    for name, identity in (("alice", ALICE), ("bob", BOB)):
        key = identity.exchange_key("seal")
        assert open_sealed(name, key, sealed(plaintext), b"secret/join") == plaintext


def test_who_is_no_recipient_gets_nothing() -> None:
    assert open_sealed("eve", EVE.exchange_key("seal"), sealed(), b"secret/join") is None


def test_a_sealed_secret_shows_nothing_of_its_contents() -> None:
    text = sealed(b"K10 the join token")["text"]
    assert isinstance(text, bytes)
    assert b"join" not in text


@pytest.mark.parametrize(
    ("name", "identity", "context"),
    [
        ("alice", EVE, b"secret/join"),  # somebody else's key under a recipient's name
        ("alice", BOB, b"secret/join"),
        ("alice", ALICE, b"secret/kubeconfig"),  # moved to another place
    ],
)
def test_a_wrong_key_or_place_does_not_open_it(name: str, identity: Identity, context: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        open_sealed(name, identity.exchange_key("seal"), sealed(), context)
    assert caught.value.drop == Drop.UNSEAL


def test_a_key_of_low_order_does_not_open_anything() -> None:
    """The all-zero X25519 public key would make every shared secret zero (RFC 7748, section 6.1)."""
    with pytest.raises(ProtocolError) as caught:
        open_sealed("alice", ALICE.exchange_key("seal"), {**sealed(), "by": bytes(32)}, b"secret/join")
    assert caught.value.drop == Drop.UNSEAL


junk = st.none() | st.integers() | st.binary(max_size=64) | st.text(max_size=8)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "to": junk | st.dictionaries(st.text(max_size=3) | st.just("alice"), junk, max_size=3),
            "by": junk | st.binary(min_size=32, max_size=32),
            "text": junk,
        },
    )
)
@settings(max_examples=200)
def test_hostile_sealed_secrets_raise_only_protocol_errors(hostile: dict[str, object]) -> None:
    drop = None
    try:
        assert open_sealed("alice", ALICE.exchange_key("seal"), hostile, b"secret/join") is None
    except ProtocolError as error:
        drop = error.drop
    assert drop in (None, Drop.MALFORMED, Drop.UNSEAL)


@given(part=st.sampled_from(["to", "by", "text"]), bit=st.integers(0, 10_000))
def test_one_flipped_bit_of_a_sealed_secret_is_refused(part: str, bit: int) -> None:
    altered = sealed()
    where = altered["to"]["alice"] if part == "to" else altered[part]  # type: ignore[index]
    assert isinstance(where, bytes)
    flipped = bytearray(where)
    bit %= len(flipped) * 8
    flipped[bit // 8] ^= 1 << bit % 8
    altered[part] = {"alice": bytes(flipped)} if part == "to" else bytes(flipped)
    with pytest.raises(ProtocolError) as caught:
        open_sealed("alice", ALICE.exchange_key("seal"), altered, b"secret/join")
    assert caught.value.drop == Drop.UNSEAL
