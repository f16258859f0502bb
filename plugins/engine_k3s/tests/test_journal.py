"""What is read of k3s' log, and what of it no waiting mends."""

from __future__ import annotations

import pytest
from kairos_engine_k3s.journal import JOURNAL


def _line(level: str, message: str) -> str:
    return f'time="2026-11-20T15:33:52Z" level={level} msg="{message}"'


START = _line("info", "Starting k3s agent v1.33.5+k3s1 (fab4a5c9)")
REFUSED = _line(
    "info",
    "Waiting to retrieve agent configuration; server is not ready: "
    "https://127.0.0.1:6444/v1-k3s/serving-kubelet.crt: 401 Unauthorized",
)


@pytest.mark.parametrize(
    "then", [START, _line("info", "k3s agent is up and running"), _line("info", "k3s is up and running")]
)
def test_what_was_before_a_start_or_is_mended_is_forgotten(then: str) -> None:
    assert JOURNAL.last_complaint(f"{START}\n{REFUSED}") is not None
    assert JOURNAL.last_complaint(f"{START}\n{REFUSED}\n{then}") is None


def test_what_waiting_does_not_mend_is_told_apart() -> None:
    refused = JOURNAL.last_complaint(f"{START}\n{REFUSED}")
    assert refused
    assert refused.is_hopeless
    assert refused.message.startswith("the join token is wrong: ")
    slow = JOURNAL.last_complaint(f"{START}\n{_line('error', 'failed to get CA certs: connection refused')}")
    assert slow
    assert not slow.is_hopeless


def test_kubernetes_own_lines_are_read_too() -> None:
    error = "E1120 15:33:52.123456    1234 kubelet.go:1511] out of luck"
    complaint = JOURNAL.last_complaint(f"{START}\n{error}")
    assert complaint
    assert complaint.message == "k3s says: out of luck"
    last_words = "F1120 15:33:51.000000    1234 server.go:302] the cause"
    complaint = JOURNAL.last_complaint(f"{START}\n{last_words}\n{error}")
    assert complaint
    assert complaint.message == "k3s says: the cause"


def test_join_tokens_are_blotted_out_though_nobody_named_them() -> None:
    text = f"K10{'a' * 64}::server:pw and https://10.1.0.2:6443"
    assert JOURNAL.blotted(text, []) == "K10… and https://10.1.0.2:6443"
