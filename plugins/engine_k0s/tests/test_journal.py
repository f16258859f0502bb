"""What is read of k0s' log, and what of it no waiting mends."""

from __future__ import annotations

import pytest
from kairos_engine_k0s.journal import JOURNAL


def _line(level: str, message: str) -> str:
    return f'time="2026-11-20 15:33:52" level={level} msg="{message}" component=k0s'


START = "--- Kairos starts k0sworker ---"
REFUSED = "Error: failed to join controller: unexpected response status: 401 Unauthorized"
WORKER_REFUSED = (
    "Error: failed to bootstrap kubelet client configuration: failed to run Kubelet: "
    "cannot create certificate signing request: Unauthorized"
)


@pytest.mark.parametrize("then", [START, "Started k0sworker.service - k0s (worker), run by Kairos."])
def test_what_was_before_a_start_is_forgotten(then: str) -> None:
    assert JOURNAL.last_complaint(REFUSED) is not None
    assert JOURNAL.last_complaint(f"{REFUSED}\n{then}") is None


@pytest.mark.parametrize("last_words", [REFUSED, WORKER_REFUSED])
def test_what_waiting_does_not_mend_is_told_apart(last_words: str) -> None:
    refused = JOURNAL.last_complaint(f"{START}\n{last_words}")
    assert refused
    assert refused.is_hopeless
    assert "join token is wrong" in refused.message
    slow = JOURNAL.last_complaint(f"{START}\n{_line('error', 'failed to fetch: connection refused')}")
    assert slow
    assert not slow.is_hopeless


def test_k0s_last_words_outrank_later_errors() -> None:
    complaint = JOURNAL.last_complaint("\n".join([START, "Error: the cause", _line("error", "a consequence")]))
    assert complaint
    assert complaint.message == "k0s says: the cause"


def test_join_tokens_are_blotted_out_though_nobody_named_them() -> None:
    text = "H4sIAAAAAAAAA0yPQW7CMBRE abcdef.0123456789abcdef and https://10.1.0.2:6443"
    assert JOURNAL.blotted(text, []) == "… … and https://10.1.0.2:6443"
