"""What a relay passes on, and how much of it."""

from __future__ import annotations

import pytest
from kairos_net_vpn import relaying, sides
from kairos_net_vpn.drops import Refused
from kairos_net_vpn.relaying import MAX_PAIRS, RATE, Quota


def test_a_pair_has_its_share_of_a_relay_and_no_more() -> None:
    quota, passed = Quota(), 0
    while quota.take((b"a", b"b"), 60000, 5.0):
        passed += 60000
    assert RATE * relaying.BURST <= passed <= RATE * relaying.BURST + 120000
    assert quota.take((b"b", b"a"), 60000, 5.0)
    assert quota.take((b"a", b"b"), 60000, 6.0)


def test_the_pairs_that_a_relay_counts_are_bounded_and_forgotten() -> None:
    quota = Quota()
    assert all(quota.take((bytes([n >> 8]), bytes([n & 255])), 1000, 0.0) for n in range(MAX_PAIRS))
    assert not quota.take((b"one", b"more"), 1000, 0.0)
    assert len(quota) == MAX_PAIRS
    assert quota.take((b"one", b"more"), 1000, 1.0)
    assert len(quota) == 1


def test_no_answer_is_larger_than_its_question() -> None:
    assert len(sides.encode_pong(bytes(8), "x" * 1000)) <= len(sides.encode_ping(bytes(8)))
    with pytest.raises(Refused):
        sides.token_of(b"\1" + bytes(20))
