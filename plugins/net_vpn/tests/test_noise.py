"""The handshake, against an independent implementation and against itself."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn import noise, spec
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.noise import Local, Remote

_document = json.loads(Path(__file__).with_name("vectors.json").read_text())
vectors = SimpleNamespace(
    **{name.upper(): bytes.fromhex(value) for name, value in _document.items() if name != "source"}
)

MAC_START, MAC_END = -2 * spec.MAC, -spec.MAC


def local(seed: bytes, psk: bytes = vectors.PSK) -> Local:
    return Local(X25519PrivateKey.from_private_bytes(seed), psk)


ALICE, BOB = local(vectors.STATIC_INITIATOR), local(vectors.STATIC_RESPONDER)


def initiation(index: int = 7) -> tuple[bytes, noise.Initiated]:
    remote = Remote(ALICE, BOB.public)
    return noise.initiate(ALICE, remote, seed=vectors.EPHEMERAL_INITIATOR, timestamp=vectors.TIMESTAMP, index=index)


def response(message: bytes, responder: Local = BOB) -> tuple[bytes, noise.SessionKeys]:
    noise.check(responder, message, spec.INITIATION_SIZE)
    knock = noise.read_initiation(responder, message)
    remote = Remote(responder, knock.public)
    noise.admit(knock, remote)
    return noise.respond(responder, remote, knock, seed=vectors.EPHEMERAL_RESPONDER, index=9)


def test_initiation_is_byte_for_byte_what_another_implementation_computes() -> None:
    message, _ = initiation()
    assert len(message) == 148
    assert message[:8] == bytes.fromhex("0100000007000000")
    assert message[8:MAC_START] == vectors.INITIATION


def test_response_is_byte_for_byte_what_another_implementation_computes() -> None:
    message, _ = response(initiation()[0])
    assert len(message) == 92
    assert message[:12] == bytes.fromhex("020000000900000007000000")
    assert message[12:MAC_START] == vectors.RESPONSE


def test_both_ends_derive_the_transport_keys_of_another_implementation() -> None:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    message, initiated = initiation()
    answer, bobs = response(message)
    alices = noise.read_response(ALICE, initiated, answer)
    assert (alices.send, alices.receive) == (bobs.receive, bobs.send)
    assert (alices.remote_index, bobs.remote_index) == (9, 7)
    for key, expected in (
        (alices.send, vectors.FIRST_FROM_INITIATOR),
        (bobs.send, vectors.FIRST_FROM_RESPONDER),
    ):
        assert ChaCha20Poly1305(key).encrypt(bytes(12), vectors.PLAINTEXT, None) == expected


def test_responder_learns_who_knocks_and_when() -> None:
    knock = noise.read_initiation(BOB, initiation()[0])
    assert knock.public == ALICE.public
    assert noise.admit(knock, Remote(BOB, ALICE.public)) == vectors.TIMESTAMP


def test_another_token_fails_at_the_response() -> None:
    message, initiated = initiation()
    answer, _ = response(message, local(vectors.STATIC_RESPONDER, psk=bytes(32)))
    with pytest.raises(Refused) as refused:
        noise.read_response(ALICE, initiated, answer)
    assert refused.value.drop is VpnDrop.UNSEAL


def test_a_psk_of_two_peers_takes_the_place_of_the_networks() -> None:
    alone = bytes(range(32))
    remote = Remote(ALICE, BOB.public, alone)
    message, initiated = noise.initiate(
        ALICE, remote, seed=vectors.EPHEMERAL_INITIATOR, timestamp=vectors.TIMESTAMP, index=7
    )
    refused_answer, _ = response(message)  # under the network's
    with pytest.raises(Refused):
        noise.read_response(ALICE, initiated, refused_answer)
    knock = noise.read_initiation(BOB, message)
    peer = Remote(BOB, ALICE.public, alone)
    noise.admit(knock, peer)
    answer, keys = noise.respond(BOB, peer, knock, seed=vectors.EPHEMERAL_RESPONDER, index=9)
    assert noise.read_response(ALICE, initiated, answer).send == keys.receive


def test_a_refused_response_leaves_the_handshake_open_for_the_right_one() -> None:
    message, initiated = initiation()
    good, _ = response(message)
    bad = good[:50] + bytes([good[50] ^ 1]) + good[51:]
    with pytest.raises(Refused):
        noise.read_response(ALICE, initiated, bad)
    assert noise.read_response(ALICE, initiated, good).remote_index == 9


def test_a_message_for_another_key_is_refused_by_one_hash() -> None:
    with pytest.raises(Refused) as refused:
        noise.check(ALICE, initiation()[0], spec.INITIATION_SIZE)
    assert refused.value.drop is VpnDrop.BAD_MAC


def test_a_key_without_a_shared_secret_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        Remote(ALICE, bytes(32))
    assert refused.value.drop is VpnDrop.BAD_KEY


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_by_name(data: bytes) -> None:
    for size in (spec.INITIATION_SIZE, spec.RESPONSE_SIZE):
        with pytest.raises(Refused):
            noise.check(BOB, data, size)


@given(st.integers(0, 148 + MAC_END - 1), st.integers(1, 255))
def test_no_altered_initiation_is_admitted(position: int, mask: int) -> None:
    message = bytearray(initiation()[0])
    message[position] ^= mask
    with pytest.raises(Refused) as refused:
        response(bytes(message))
    assert refused.value.drop is VpnDrop.BAD_MAC


@given(st.integers(8, 148 + MAC_START - 1), st.integers(1, 255))
def test_no_initiation_with_a_right_mac_and_altered_content_is_admitted(position: int, mask: int) -> None:
    message = bytearray(initiation()[0][:MAC_START])
    message[position] ^= mask
    remade = Remote(ALICE, BOB.public).with_macs(bytes(message))
    with pytest.raises(Refused) as refused:
        response(remade)
    assert refused.value.drop in (VpnDrop.UNSEAL, VpnDrop.BAD_KEY)


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_labels_of_time_sort_as_the_times_do(one: float, other: float) -> None:
    if one < other:
        assert noise.tai64n(one) <= noise.tai64n(other)
    assert len(noise.tai64n(one)) == 12


def test_label_of_a_known_second() -> None:
    # 1970-01-01 00:00:00 is TAI second 10 after 2^62 (Bernstein, TAI64).
    assert noise.tai64n(0.0).hex() == "400000000000000a00000000"


def test_secrets_are_in_no_repr() -> None:
    message, initiated = initiation()
    _, keys = response(message)
    shown = repr((ALICE, Remote(ALICE, BOB.public), keys, initiated, noise.read_initiation(BOB, message)))
    for secret in (vectors.PSK, vectors.STATIC_INITIATOR, keys.send, keys.receive):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown
