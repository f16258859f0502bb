"""Text for other eyes holds no secret, whether it is known or only looks like one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.config import parse_config
from kairos_core.protocol.token import format_token, new_token
from kairos_core.runtime.blotting import INK, SHORTEST, blotted, secrets_in

TOKEN = new_token(random.Random(7).choice)
KEY = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIB\nabc=\n-----END EC PRIVATE KEY-----"


@given(st.text(), st.text(min_size=SHORTEST), st.text())
def test_a_known_secret_is_nowhere_in_the_text(before: str, secret: str, after: str) -> None:
    text = blotted(f"{before}{secret}{after}", [secret])
    assert secret not in text or secret in INK * len(text)


def test_of_secrets_that_hold_each_other_nothing_is_left() -> None:
    assert blotted("a hush-hush-more b", ["hush-hush", "hush-hush-more"]) == f"a {INK} b"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("token K10abcdef0123456789::server:abcdef used", "abcdef0123456789::server"),
        ("join with H4sIAAAAAAAC/2xVzXKbPBS9+xQ8AW", "H4sIAAAAAAAC"),
        ("bootstrap abcdef.0123456789abcdef is new", "0123456789abcdef"),
        ("postgres://kairos:pass@word@db:5432/k3s", "pass@word"),
        ("Authorization: Bearer eyJhbGciOi.x.y", "eyJhbGciOi"),
        (f"key follows\n{KEY}\nand goes on", "MHcCAQEEIB"),
        ("-----BEGIN PRIVATE KEY-----\nMHcCAQEEIB (cut off)", "MHcCAQEEIB"),
        ("client-key-data: S0VZS0VZ", "S0VZS0VZ"),
        ("K3S_TOKEN=very-secret --debug", "very-secret"),
        ('{"password": "very secret", "user": "me"}', "very secret"),
        ("password='very secret' user=me", "very secret"),
    ],
)
def test_what_looks_like_a_secret_goes_and_the_rest_stays(text: str, secret: str) -> None:
    clean = blotted(text)
    assert secret not in clean
    assert INK in clean
    assert clean.split(INK)[0] == text[: len(clean.split(INK)[0])]


@pytest.mark.parametrize(
    "text", ["10.1.0.7 is node-1", "token: ", "2026-11-27T12:00:00 k3s is ready", "", "https://db:5432/k3s"]
)
def test_innocent_text_is_left_alone(text: str) -> None:
    assert blotted(text) == text


def test_all_that_is_secret_in_a_configuration_is_known() -> None:
    text = f"""
p2p:
  network_token: {format_token(TOKEN)}
  auto: {{ha: {{enable: true, external_db: "mysql://me:hush@db/k"}}}}
k3s: {{args: ["--debug-me"], env: {{SOME: hidden-away}}}}
"""
    config = parse_config([("kairos.yaml", text)])
    found = secrets_in(config) | secrets_in(TOKEN)
    assert {format_token(TOKEN), "mysql://me:hush@db/k", "hidden-away", TOKEN.otp.dht.key, TOKEN.room} <= found
    assert "kairos" not in found, "the network's name is no secret"
