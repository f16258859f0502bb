"""Secrets show in no repr, no string, no error: the values that carry them are asked for both."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import Any

import pytest

from kairos_core import Attachment, EngineState, EngineStatus, Join, NodePlan, Role, SecretStr
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.token import Token, format_token, new_token, parse_token

TOKEN = new_token(random.Random(1).choice, quorum=2)
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
MARK = "K10f00d::server:S3CRET-MARK"

PLAN = NodePlan(
    role=Role.WORKER,
    node_name="n1",
    attachment=Attachment(),
    cluster_token=SecretStr(MARK),
    join=Join("https://10.1.0.1:6443", SecretStr(MARK)),
    datastore=SecretStr(f"postgres://user:{MARK}@db/k3s"),
)
STATUS = EngineStatus(EngineState.READY, join_token=SecretStr(MARK), kubeconfig=SecretStr(f"token: {MARK}"))


def token_secrets(token: Token) -> list[str]:
    return [token.otp.dht.key, token.otp.crypto.key, token.room, token.rendezvous, token.mdns, format_token(token)]


def spellings(secret: bytes) -> Iterator[str]:
    yield repr(secret)[2:-1]
    yield secret.hex()
    yield str(list(secret))[1:-1]


KEYRING = Keyring(TOKEN)
KEYS = KEYRING.accepted(1_800_000_000.0)

CARRIERS: list[tuple[Any, list[str]]] = [
    (TOKEN, token_secrets(TOKEN)),
    (TOKEN.otp, token_secrets(TOKEN)),
    (TOKEN.otp.dht, token_secrets(TOKEN)),
    (KEYRING, [*token_secrets(TOKEN), *spellings(KEYRING._secret)]),
    *((key, [*spellings(key._secret), *spellings(key._salt), *token_secrets(TOKEN)]) for key in KEYS),
    (Identity(SEED), list(spellings(SEED))),
    (PLAN.join, [MARK]),
    (PLAN, [MARK, "postgres://"]),
    (STATUS, [MARK]),
]


@pytest.mark.parametrize(("carrier", "secrets"), CARRIERS, ids=lambda value: type(value).__name__)
def test_no_way_of_printing_shows_a_secret(carrier: Any, secrets: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("%s %r %s", carrier, carrier, [carrier])
    printed = [repr(carrier), str(carrier), f"{carrier}", repr([carrier]), repr({"x": carrier}), caplog.text]
    for text in printed:
        for secret in secrets:
            assert secret
            assert secret not in text


def test_the_secrets_are_there_where_they_are_asked_for() -> None:
    """So that the test above cannot pass because nothing was there to show."""
    assert PLAN.join is not None
    assert PLAN.join.token.get_secret_value() == MARK
    assert parse_token(format_token(TOKEN)) == TOKEN
    assert len(KEYS) == 4


def test_what_is_printed_still_says_what_it_is() -> None:
    assert "role=<Role.WORKER" in repr(PLAN)
    assert "n1" in repr(PLAN)
    assert "interval=3600" in repr(TOKEN)
    assert KEYS[0].label in repr(KEYS[0])
    assert str(Identity(SEED).peer_id) in repr(Identity(SEED))
