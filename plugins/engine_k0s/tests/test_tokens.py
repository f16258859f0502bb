from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kairos_engine_k0s.tokens import MAX_TOKEN, authority_of, format_tokens, token_for, with_host

from kairos_core import EngineError, SecretStr

Make = Callable[..., str]


def test_one_join_token_carries_both_and_each_role_takes_its_own() -> None:
    joined = format_tokens({"worker": "w", "controller": "c"})
    assert (token_for("controller", joined), token_for("worker", joined)) == ("c", "w")
    assert json.loads(joined.get_secret_value()) == {"controller": "c", "worker": "w"}


def test_where_no_further_master_can_join_there_is_a_token_for_workers_alone() -> None:
    joined = format_tokens({"worker": "w"})
    assert token_for("worker", joined) == "w"
    with pytest.raises(EngineError, match="no part for a controller"):
        token_for("controller", joined)


def test_a_plain_token_of_k0s_is_taken_for_either_role() -> None:
    assert token_for("worker", SecretStr("H4sIAA\n")) == "H4sIAA"


def test_another_host_keeps_port_user_secret_and_authority(make_token: Make) -> None:
    token = make_token("controller-bootstrap", "https://10.1.0.1:9443")
    changed = with_host(token, "10.1.0.2")
    document = yaml.safe_load(gzip.decompress(base64.b64decode(changed)))
    assert document["clusters"][0]["cluster"]["server"] == "https://10.1.0.2:9443"
    assert document["users"] == [{"name": "controller-bootstrap", "user": {"token": "abcdef.0123456789abcdef"}}]
    assert authority_of(changed) == authority_of(token) == "PEM\n"


def test_equal_tokens_give_equal_files_at_any_time(make_token: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    token = make_token("kubelet-bootstrap", "https://10.1.0.1:6443")
    made = []
    for now in (1e9, 2e9):
        monkeypatch.setattr("time.time", lambda now=now: now)
        made.append(with_host(token, "fd00::2"))
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("K10f00d::server:secret", "none of k0s"),
        ("AAAA", "not gzipped"),
        (base64.b64encode(gzip.compress(b"secret: [")).decode(), "not YAML"),
        (base64.b64encode(gzip.compress(b"clusters: 1")).decode(), "no kubeconfig"),
        (base64.b64encode(gzip.compress(b"a" * MAX_TOKEN * 20)).decode(), "larger than"),
        (base64.b64encode(gzip.compress(b"\xff\xfe")).decode(), "no kubeconfig"),
    ],
)
def test_what_is_no_token_of_k0s_is_refused_with_the_reason_and_not_shown(token: str, why: str) -> None:
    with pytest.raises(EngineError, match=why) as caught:
        with_host(token, "10.1.0.2")
    assert "secret" not in str(caught.value)
    with pytest.raises(EngineError):
        authority_of(token)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(EngineError):
        with_host(text, "h")
    with suppress(EngineError):
        authority_of(text)
    with suppress(EngineError):
        token_for("worker", SecretStr(text))
