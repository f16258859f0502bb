from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_engine_k3s.journal import last_complaint


def _line(level: str, message: str) -> str:
    return f'time="2026-11-20T15:33:52Z" level={level} msg="{message}"'


START = _line("info", "Starting k3s agent v1.33.5+k3s1 (fab4a5c9)")
REFUSED = _line(
    "info",
    "Waiting to retrieve agent configuration; server is not ready: "
    "https://127.0.0.1:6444/v1-k3s/serving-kubelet.crt: 401 Unauthorized",
)


@pytest.mark.parametrize(
    "log",
    ["", START, "\n".join([START, _line("warning", "not so bad")]), "\n".join([REFUSED, START])],
)
def test_a_log_without_trouble_since_the_last_start_complains_of_nothing(log: str) -> None:
    assert last_complaint(log) is None


def test_what_waiting_does_not_mend_is_told_apart() -> None:
    refused = last_complaint("\n".join([START, REFUSED]))
    assert refused
    assert refused.is_hopeless
    slow = last_complaint("\n".join([START, _line("error", "failed to get CA certs: connection refused")]))
    assert slow
    assert not slow.is_hopeless


def test_a_fatal_line_outranks_later_errors() -> None:
    log = "\n".join([START, _line("fatal", "the cause"), _line("error", "a consequence")])
    complaint = last_complaint(log)
    assert complaint
    assert "the cause" in complaint.message


def test_what_is_mended_is_forgotten() -> None:
    assert last_complaint("\n".join([START, REFUSED, _line("info", "k3s agent is up and running")])) is None


def test_kubernetes_own_lines_are_read_too() -> None:
    complaint = last_complaint(f"{START}\nE1120 15:33:52.123456    1234 kubelet.go:1511] out of luck")
    assert complaint
    assert "out of luck" in complaint.message


def test_secrets_are_blotted_out() -> None:
    text = f"K10{'a' * 64}::server:pw postgres://user:pass@db my-own-secret"
    complaint = last_complaint(_line("error", text), ["my-own-secret", "db"])
    assert complaint
    assert complaint.message == "k3s says: K10… postgres://…@db …"


@given(st.text(max_size=400))
def test_any_log_is_read(log: str) -> None:
    last_complaint(log, ["secret"])
