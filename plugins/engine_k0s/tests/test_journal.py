from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_engine_k0s.journal import last_complaint


def _line(level: str, message: str) -> str:
    return f'time="2026-11-20 15:33:52" level={level} msg="{message}" component=k0s'


START = "--- Kairos starts k0sworker ---"
REFUSED = "Error: failed to join controller: unexpected response status: 401 Unauthorized"
WORKER_REFUSED = (
    "Error: failed to bootstrap kubelet client configuration: failed to run Kubelet: "
    "cannot create certificate signing request: Unauthorized"
)


@pytest.mark.parametrize(
    "log",
    [
        "",
        START,
        "\n".join([START, _line("warning", "not so bad")]),
        "\n".join([REFUSED, START]),
        "\n".join([REFUSED, "Started k0sworker.service - k0s (worker), run by Kairos."]),
    ],
)
def test_a_log_without_trouble_since_the_last_start_complains_of_nothing(log: str) -> None:
    assert last_complaint(log) is None


@pytest.mark.parametrize("last_words", [REFUSED, WORKER_REFUSED])
def test_what_waiting_does_not_mend_is_told_apart(last_words: str) -> None:
    refused = last_complaint("\n".join([START, last_words]))
    assert refused
    assert refused.is_hopeless
    assert "join token is wrong" in refused.message
    slow = last_complaint("\n".join([START, _line("error", "failed to fetch: connection refused")]))
    assert slow
    assert not slow.is_hopeless


def test_k0s_last_words_outrank_later_errors() -> None:
    complaint = last_complaint("\n".join([START, "Error: the cause", _line("error", "a consequence")]))
    assert complaint
    assert complaint.message == "k0s says: the cause"


def test_secrets_are_blotted_out() -> None:
    text = "H4sIAAAAAAAAA0yPQW7CMBRE abcdef.0123456789abcdef postgres://user:pass@db my-own-secret"
    complaint = last_complaint(_line("error", text), ["my-own-secret", "db"])
    assert complaint
    assert complaint.message == "k0s says: … … postgres://…@db …"


@given(st.text(max_size=400))
def test_any_log_is_read(log: str) -> None:
    last_complaint(log, ["secret"])
