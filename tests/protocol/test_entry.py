import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.errors import ProtocolError
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.entry import (
    LEASE,
    MAX_VALUE,
    TOMBSTONE,
    Entry,
    decode_entry,
    is_authentic,
    pack,
    sign_entry,
    unpack,
)
from kairos_core.protocol.identity import Identity

NETWORK = b"n" * 16
ALICE = Identity(b"a" * 32)


def signed(**changes: object) -> Entry:
    fields = {"bucket": "peers", "key": str(ALICE.peer_id), "value": pack({"x": 1}), "author": ALICE.peer_id, "hlc": 7}
    return sign_entry(Entry(**{**fields, **changes}), ALICE, NETWORK)


def test_an_entry_survives_the_wire_with_its_id_and_signature() -> None:
    entry = signed(epoch=3, ttl=60)
    again = decode_entry(entry.raw, NETWORK)
    assert again == entry
    assert len(again.id) == 16
    assert is_authentic(again, NETWORK)


def test_the_signature_covers_the_network() -> None:
    assert not is_authentic(decode_entry(signed().raw, b"m" * 16), b"m" * 16)


@given(st.integers(0, 2000), st.integers(1, 255))
def test_any_changed_byte_is_refused_or_unauthentic(place: int, flip: int) -> None:
    raw = bytearray(signed().raw)
    raw[place % len(raw)] ^= flip
    try:
        entry = decode_entry(bytes(raw), NETWORK)
    except ProtocolError:
        return
    assert not is_authentic(entry, NETWORK)


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_with_a_named_drop(raw: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_entry(raw, NETWORK)
    assert caught.value.drop in {drop.value for drop in Drop}


def test_a_second_encoding_of_the_same_content_is_refused() -> None:
    entry = signed()
    # The array header as a 16-bit length instead of the short form: same content, other bytes.
    longer = b"\xdc\x00\x09" + entry.body[1:] + entry.signature
    assert msgpack.unpackb(longer[:-64]) == msgpack.unpackb(entry.body)
    with pytest.raises(ProtocolError, match="not_canonical"):
        decode_entry(longer, NETWORK)


@pytest.mark.parametrize(
    ("changes", "drop"),
    [
        ({"value": b"x" * (MAX_VALUE + 1)}, "oversized"),
        ({"bucket": "b" * 33}, "oversized"),
        ({"key": "k" * 129}, "oversized"),
        ({"ttl": LEASE + 1}, "malformed"),
    ],
)
def test_a_value_over_its_limit_cannot_be_written(changes: dict[str, object], drop: str) -> None:
    with pytest.raises(ValueError, match=drop):
        signed(**changes)


def test_a_tombstone_has_no_content() -> None:
    assert signed(value=b"", flags=TOMBSTONE).content is None
    assert signed(value=b"", flags=TOMBSTONE).is_deleted


@given(st.binary(max_size=200))
def test_unpacking_random_bytes_never_raises_anything_else(raw: bytes) -> None:
    try:
        unpack(raw)
    except ProtocolError as error:
        assert error.drop == Drop.MALFORMED


def test_deeply_nested_arrays_are_refused() -> None:
    with pytest.raises(ProtocolError):
        unpack(b"\x91" * 5000 + b"\x01")
