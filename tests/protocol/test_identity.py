"""Identities: Ed25519 as RFC 8032 has it, peer ids as libp2p writes them."""

from __future__ import annotations

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kairos_core import PeerId
from kairos_core.protocol.identity import Identity, is_signed_by

# RFC 8032, section 7.1: seed, public key, message, signature
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
]

# libp2p specification, tls/tls.md, test vector 1: the key in the certificate, and its peer id
LIBP2P_KEY = "a77f1d92fedb59dddaea5a1c4abd1ac2fbde7d7b879ed364501809923d7c11b9"
LIBP2P_ID = "12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv"


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_keys_and_signatures_are_those_of_rfc_8032(seed: str, public: str, message: str, signature: str) -> None:
    identity = Identity(bytes.fromhex(seed))
    assert identity.peer_id.public_key.hex() == public
    assert identity.sign(bytes.fromhex(message)).hex() == signature
    assert is_signed_by(identity.peer_id, bytes.fromhex(message), bytes.fromhex(signature))


def test_a_peer_id_is_written_as_libp2p_writes_it() -> None:
    peer = PeerId(bytes.fromhex(LIBP2P_KEY))
    assert str(peer) == LIBP2P_ID
    assert PeerId.parse(LIBP2P_ID) == peer
    assert peer.short == "XEsk4Ksv"
    assert repr(peer) == f"PeerId({LIBP2P_ID})"


def test_the_peer_id_of_the_specification_is_read_and_written_back() -> None:
    example_of_spec = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"  # libp2p peer-ids.md
    assert str(PeerId.parse(example_of_spec)) == example_of_spec


@given(st.binary(min_size=32, max_size=32))
@example(bytes(32))
@example(b"\xff" * 32)
def test_any_public_key_survives_its_text(key: bytes) -> None:
    peer = PeerId(key)
    assert str(peer).startswith("12D3KooW")
    assert PeerId.parse(str(peer)) == peer


@given(st.text(max_size=80) | st.from_regex(r"\A1[1-9A-HJ-NP-Za-km-z]{40,59}\Z"))
@example("")
@example("1")
@example("1" * 60)
@example("12D3KooW")
@example("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
@example("16Uiu2HAkutTMoTzDw1tCvSRtu6YoixJwS46S1ZFxW8hSx9fWHiPs")
@example(" " + LIBP2P_ID)
@example("1" + LIBP2P_ID)
@example(LIBP2P_ID + "1")
def test_any_other_text_is_no_peer_id(text: str) -> None:
    try:
        peer = PeerId.parse(text)
    except ValueError:
        return
    assert str(peer) == text


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"a peer id has 32 bytes, not {size}"):
        PeerId(bytes(size))


@given(st.binary(max_size=100), st.integers(0, 511))
def test_an_altered_signature_or_message_is_not_taken(message: bytes, bit: int) -> None:
    identity = Identity(b"\x01" * 32)
    signature = bytearray(identity.sign(message))
    signature[bit // 8] ^= 1 << bit % 8
    assert not is_signed_by(identity.peer_id, message, bytes(signature))
    assert not is_signed_by(identity.peer_id, message + b"\0", identity.sign(message))
    assert not is_signed_by(Identity(b"\x02" * 32).peer_id, message, identity.sign(message))


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=80))
@example(b"\xff" * 32, b"")
def test_hostile_keys_and_signatures_are_refused_without_an_error(key: bytes, signature: bytes) -> None:
    assert is_signed_by(PeerId(key), b"message", signature) is False


def test_exchange_keys_are_the_same_at_every_start_and_one_per_purpose() -> None:
    seed = os.urandom(32)
    seal = Identity(seed).exchange_key("seal").public_key().public_bytes_raw()
    assert Identity(seed).exchange_key("seal").public_key().public_bytes_raw() == seal
    assert Identity(seed).exchange_key("vpn").public_key().public_bytes_raw() != seal


def test_a_seed_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        Identity(b"short")
