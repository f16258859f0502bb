"""Tokens are written as EdgeVPN writes them, and read from wherever they come."""

from __future__ import annotations

import base64
import random
from dataclasses import replace

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from kairos_core import ConfigError
from kairos_core.protocol.token import KEY_ALPHABET, MAX_TOKEN, Token, format_token, new_token, parse_token

NEVER = 9223372036854775807
"""The interval of tokens that the reference's `kairos generate-token` makes: they do not rotate."""


def edgevpn_token(interval: int = 9000, length: int = 43, key_length: int = 43, **further: object) -> str:
    """Write a token as EdgeVPN's library does: its keys, its marshal order, Go's YAML style."""
    key = (KEY_ALPHABET * 2)[:key_length]
    lines = [
        "otp:",
        "  dht:",
        f"    interval: {interval}",
        f"    key: {key}",
        f"    length: {length}",
        "  crypto:",
        f"    interval: {interval}",
        f"    key: {key[::-1]}",
        f"    length: {length}",
        "room: Q1k3YyIYJjVEqyoYoSKTYmZbUXMVIRu1kBMVWCTPWxD",
        "rendezvous: vTDUSUPIjEZqVBUmcYzvpTzzVlMPzEDRiXHRSZAGwXK",
        "mdns: nCfxkuAGvEWCPUqvSFNyzVVLZjhvDjPNdFKhUDBPRzI",
        "max_message_size: 20971520",
        *(f"{name}: {value}" for name, value in further.items()),
    ]
    return base64.b64encode(("\n".join(lines) + "\n").encode()).decode()


def predictable(seed: int = 1, **terms: int) -> Token:
    return new_token(random.Random(seed).choice, **terms)


def test_a_token_of_edgevpn_is_read() -> None:
    token = parse_token(edgevpn_token())
    assert token.otp.dht.interval == token.otp.crypto.interval == 9000
    assert token.otp.dht.key == KEY_ALPHABET[:43]
    assert token.otp.crypto.key == KEY_ALPHABET[:43][::-1]
    assert token.room == "Q1k3YyIYJjVEqyoYoSKTYmZbUXMVIRu1kBMVWCTPWxD"
    assert token.rendezvous.startswith("vTDUSUP")
    assert token.mdns.startswith("nCfxku")
    assert token.max_message_size == 20971520
    assert token.kairos is None


@pytest.mark.parametrize("key_length", [32, 43, 52])
@pytest.mark.parametrize("length", [32, 43, 44])
def test_keys_of_older_releases_are_read(key_length: int, length: int) -> None:
    token = parse_token(edgevpn_token(NEVER, length, key_length))
    assert (len(token.otp.dht.key), token.otp.dht.length, token.otp.dht.interval) == (
        key_length,
        length,
        NEVER,
    )


def test_unknown_keys_of_a_newer_release_are_ignored() -> None:
    assert parse_token(edgevpn_token(novelty="[1, 2]")).otp.dht.interval == 9000


@pytest.mark.parametrize("word", ["yes", "0123", "12345678901234567890", "1e5", "null", "2026-11-20", "~"])
def test_a_string_is_what_is_written_and_never_a_guess_of_yaml(word: str) -> None:
    raw = base64.b64decode(edgevpn_token()).replace(b"Q1k3YyIYJjVEqyoYoSKTYmZbUXMVIRu1kBMVWCTPWxD", word.encode())
    assert parse_token(base64.b64encode(raw).decode()).room == word


def test_white_space_from_copying_does_no_harm() -> None:
    text = edgevpn_token()
    broken = "  " + "\n".join(text[n : n + 60] for n in range(0, len(text), 60)) + "\r\n"
    assert parse_token(broken) == parse_token(text)


def test_a_token_is_written_in_the_order_of_edgevpn_with_ours_first() -> None:
    text = format_token(predictable(interval=360, quorum=3))
    assert "\n" not in text
    document = yaml.safe_load(base64.b64decode(text))
    assert list(document) == ["kairos", "otp", "room", "rendezvous", "mdns", "max_message_size"]
    assert list(document["otp"]) == ["dht", "crypto"]
    assert list(document["otp"]["dht"]) == ["interval", "key", "length"]
    assert document["max_message_size"] == 20 << 20
    assert document["kairos"] == {"version": 1, "quorum": 3, "check": document["kairos"]["check"]}
    assert len(document["kairos"]["check"]) == 8


def test_a_new_token_has_five_different_secrets_of_256_bits() -> None:
    token = predictable()
    keys = [token.otp.dht.key, token.otp.crypto.key, token.room, token.rendezvous, token.mdns]
    assert len(set(keys)) == 5
    assert all(len(key) == 43 and set(key) <= set(KEY_ALPHABET) for key in keys)
    assert (token.otp.dht.interval, token.otp.dht.length) == (3600, 43)
    assert len(set(KEY_ALPHABET)) == 62


@given(
    seed=st.integers(0, 2**32),
    interval=st.integers(1, NEVER),
    quorum=st.none() | st.integers(1, 1000),
)
@example(seed=0, interval=NEVER, quorum=None)
def test_what_is_written_is_read_back(seed: int, interval: int, quorum: int | None) -> None:
    token = new_token(random.Random(seed).choice, interval, quorum)
    assert parse_token(format_token(token)) == token


def damaged(change: dict[str, object]) -> str:
    document = yaml.safe_load(base64.b64decode(edgevpn_token()))
    for path, value in change.items():
        *parents, last = path.split(".")
        part = document
        for parent in parents:
            part = part[parent]
        part[last] = value
    return base64.b64encode(yaml.safe_dump(document).encode()).decode()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the network token is empty"),
        (" \n\t", "the network token is empty"),
        ("not base64!", r"is not base64 \(10 characters: is its end cut off\?\)"),
        ("b3RwOg", r"is not base64 \(6 characters"),
        ("öööö", "is not base64"),
        ("A" * (MAX_TOKEN + 1), f"has {MAX_TOKEN + 1} characters, more than {MAX_TOKEN}"),
        (base64.b64encode(b"otp: [").decode(), "base64 of something that is not YAML"),
        (base64.b64encode(b"\xff\xfe\xfd").decode(), "base64 of something that is not YAML"),
        (base64.b64encode(b"[" * 12_000).decode(), "base64 of something that is not YAML"),
        (base64.b64encode(b"just text").decode(), "holds no settings"),
        (base64.b64encode(b"room: x").decode(), "otp: field required"),
        (damaged({"otp.dht.interval": 0}), r"otp\.dht\.interval: input should be greater than 0"),
        (damaged({"otp.dht.interval": NEVER + 1}), r"otp\.dht\.interval"),
        (
            damaged({"otp.crypto.length": 45}),
            r"otp\.crypto\.length: input should be less than or equal to 44",
        ),
        (
            damaged({"otp.crypto.key": "k" * 15}),
            r"otp\.crypto\.key: string should have at least 16 characters",
        ),
        (damaged({"otp.crypto.key": "k" * 257}), r"otp\.crypto\.key"),
        (damaged({"kairos": {"version": 2}}), r"kairos\.version"),
        (damaged({"kairos": {"version": 1, "quorum": 3}}), "the network token is not whole"),
        (damaged({"kairos": {"quorum": 0}}), r"kairos\.quorum"),
    ],
)
def test_a_damaged_token_says_what_is_wrong_and_what_to_do(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        parse_token(text)
    assert "kairos generate-token" in str(caught.value)


def test_no_error_shows_any_of_the_token() -> None:
    for change in (
        {"otp.dht.interval": "S3CRET"},
        {"otp.crypto.length": "S3CRET"},
        {"otp.dht.key": ["S3CRET"]},
    ):
        with pytest.raises(ConfigError) as caught:
            parse_token(damaged(change))
        assert "S3CRET" not in str(caught.value)
        assert caught.value.__context__ is None


@given(st.text())
def test_any_text_is_a_token_or_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_token(text)


@given(st.binary(max_size=600))
@example(b"!!python/object/apply:os.system ['true']")
@example(b"otp: &a {dht: *a, crypto: *a}")
@example(b"? [a]\n: b")
@example(b"otp: {dht: {interval: .inf, key: k}, crypto: {interval: 1, key: k}}")
def test_any_bytes_in_base64_are_a_token_or_a_configuration_error(raw: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_token(base64.b64encode(raw).decode())


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_one_wrong_byte_in_edgevpns_is_another_token_or_a_configuration_error(position: int, byte: int) -> None:
    raw = bytearray(base64.b64decode(edgevpn_token()))
    raw[position % len(raw)] = byte
    try:
        token = parse_token(base64.b64encode(raw).decode())
    except ConfigError:
        return
    assert isinstance(token, Token)


def test_a_token_that_lost_its_end_is_refused_wherever_it_was_cut() -> None:
    text = format_token(predictable(quorum=15))
    for length in range(len(text)):
        with pytest.raises(ConfigError, match="Copy it again"):
            parse_token(text[:length])


def test_a_token_of_edgevpn_that_lost_its_end_keeps_all_its_keys_or_is_refused() -> None:
    text = edgevpn_token()
    for length in range(len(text)):
        try:
            token = parse_token(text[:length])
        except ConfigError:
            continue
        assert replace(token, max_message_size=20971520) == parse_token(text)


@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_one_wrong_byte_in_our_token_is_found_or_changes_nothing(position: int, byte: int) -> None:
    token = predictable(quorum=15)
    raw = bytearray(base64.b64decode(format_token(token)))
    head = len("kairos:")  # without it, it would be a token of EdgeVPN
    raw[head + position % (len(raw) - head)] = byte
    try:
        assert parse_token(base64.b64encode(raw).decode()) == token
    except ConfigError:
        return
