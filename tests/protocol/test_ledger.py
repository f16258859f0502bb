from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.errors import ProtocolError
from kairos_core.protocol import ledger as ledger_module
from kairos_core.protocol.clock import HybridClock, stamp
from kairos_core.protocol.entry import LEASE, Entry, pack, sign_entry
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Ledger, draft

NETWORK = b"n" * 16
NOW = 1_800_000_000.0
ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)


def own(value: object, who: Identity = ALICE) -> Entry:
    return draft(who.peer_id, "peers", str(who.peer_id), value)


def test_what_is_written_is_read_and_taken_by_a_peer() -> None:
    mine, theirs = Ledger(NETWORK), Ledger(NETWORK)
    change = mine.write(ALICE, own({"name": "a"}), NOW)
    assert theirs.take(change.entry.raw, NOW) is not None
    assert theirs.get("peers", str(ALICE.peer_id), NOW).content == {"name": "a"}
    assert theirs.take(change.entry.raw, NOW) is None, "what we hold is neither news nor an error"


def test_nobody_takes_an_entry_that_another_wrote_in_its_author_s_name() -> None:
    forged = sign_entry(Entry("peers", str(ALICE.peer_id), pack(1), BOB.peer_id, stamp(NOW)), BOB, NETWORK)
    with pytest.raises(ProtocolError, match="forged_author"):
        Ledger(NETWORK).take(forged.raw, NOW)
    stolen = Entry("peers", str(ALICE.peer_id), pack(1), ALICE.peer_id, stamp(NOW))
    with pytest.raises(ProtocolError, match="bad_signature"):
        Ledger(NETWORK).take(stolen.body + BOB.sign(b"kairos entry 1" + NETWORK + stolen.body), NOW)


def test_an_older_entry_of_the_same_key_is_stale() -> None:
    mine, theirs = Ledger(NETWORK), Ledger(NETWORK)
    old = mine.write(ALICE, own(1), NOW).entry
    new = mine.write(ALICE, own(2), NOW).entry
    theirs.take(new.raw, NOW)
    with pytest.raises(ProtocolError, match="stale"):
        theirs.take(old.raw, NOW)


def test_an_entry_past_its_lease_is_refused_and_forgotten() -> None:
    ledger = Ledger(NETWORK)
    entry = ledger.write(ALICE, own(1), NOW).entry
    assert ledger.get("peers", str(ALICE.peer_id), NOW + LEASE + 1) is None
    assert [gone.id for gone in ledger.expire(NOW + LEASE + 1)] == [entry.id]
    assert ledger.digest == Ledger(NETWORK).digest
    with pytest.raises(ProtocolError, match="expired"):
        ledger.take(entry.raw, NOW + LEASE + 1)


def test_a_deleted_entry_does_not_come_back() -> None:
    mine, theirs = Ledger(NETWORK), Ledger(NETWORK)
    old = mine.write(ALICE, own(1), NOW).entry
    theirs.take(mine.write(ALICE, own(None), NOW + 1).entry.raw, NOW + 1)
    with pytest.raises(ProtocolError, match="stale"):
        theirs.take(old.raw, NOW + 2)
    assert list(theirs.read(NOW + 2)) == []


def test_an_entry_from_the_far_future_is_refused_and_does_not_move_our_clock() -> None:
    ahead, ledger = Ledger(NETWORK), Ledger(NETWORK)
    entry = ahead.write(ALICE, own("future"), NOW + 3600).entry
    with pytest.raises(ProtocolError, match="ahead"):
        ledger.take(entry.raw, NOW)
    assert ledger.write(BOB, own("now", BOB), NOW).entry.signed_at < NOW + 1


def test_a_clock_that_was_set_back_hides_what_was_written_before_until_its_author_signs_it_again() -> None:
    ledger, peer = Ledger(NETWORK), Ledger(NETWORK)
    early = ledger.write(ALICE, own("written"), NOW + 86_400).entry
    assert ledger.get("peers", str(ALICE.peer_id), NOW) is None
    assert ledger.renewals(ALICE.peer_id, NOW) == [early]
    again = ledger.write(ALICE, early, NOW).entry
    assert again.signed_at < NOW + 1
    assert ledger.get("peers", str(ALICE.peer_id), NOW).content == "written"
    assert peer.take(again.raw, NOW) is not None


def test_a_machine_whose_clock_is_behind_its_own_disk_keeps_what_it_had_saved() -> None:
    saved = Ledger(NETWORK).write(ALICE, own("saved"), NOW).entry
    ledger = Ledger(NETWORK)
    assert ledger.take(saved.raw, NOW - 86_400, is_ours=True) is not None
    assert ledger.get("peers", str(ALICE.peer_id), NOW - 86_400) is None
    assert ledger.get("peers", str(ALICE.peer_id), NOW).content == "saved"


def nested(levels: int) -> object:
    value: object = "core"
    for _ in range(levels):
        value = [value]
    return value


def test_a_value_nested_too_deeply_is_not_read_and_not_written() -> None:
    with pytest.raises(ValueError, match="nested over 32 levels"):
        draft(ALICE.peer_id, "values", "deep", nested(500))
    with pytest.raises(ValueError, match="over 64 bits"):
        draft(ALICE.peer_id, "values", "big", 1 << 64)
    hostile = sign_entry(Entry("values", "deep", b"\x91" * 900 + b"\x01", ALICE.peer_id, stamp(NOW)), ALICE, NETWORK)
    ledger = Ledger(NETWORK)
    ledger.take(hostile.raw, NOW)
    assert ledger.get("values", "deep", NOW).content is None
    ledger.write(ALICE, draft(ALICE.peer_id, "values", "flat", nested(31)), NOW)
    assert ledger.get("values", "flat", NOW).content == nested(31)


def test_renewals_are_due_after_a_quarter_of_the_lease() -> None:
    ledger = Ledger(NETWORK)
    entry = ledger.write(ALICE, own(1), NOW).entry
    assert ledger.renewals(ALICE.peer_id, NOW + LEASE / 4 - 1) == []
    assert ledger.renewals(ALICE.peer_id, NOW + LEASE / 4 + 1) == [entry]
    renewed = ledger.write(ALICE, own(1), NOW + LEASE / 4 + 1).entry
    assert renewed.expires_at > entry.expires_at


def test_a_node_keeps_alive_what_an_operator_has_set_for_it() -> None:
    ledger = Ledger(NETWORK)
    set_for_alice = ledger.write(BOB, draft(BOB.peer_id, "roles", str(ALICE.peer_id), {"role": "worker"}), NOW).entry
    later = NOW + LEASE / 4 + 1
    assert ledger.renewals(ALICE.peer_id, later) == [set_for_alice]
    ledger.write(ALICE, replace(set_for_alice, author=ALICE.peer_id), later)
    assert ledger.get("roles", str(ALICE.peer_id), NOW + LEASE + 1).content == {"role": "worker"}


def test_one_author_cannot_fill_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MAX_PER_AUTHOR", 3)
    ledger = Ledger(NETWORK)
    for n in range(3):
        ledger.write(ALICE, draft(ALICE.peer_id, "values", f"k{n}", n), NOW)
    with pytest.raises(ValueError, match="ledger_full"):
        ledger.write(ALICE, draft(ALICE.peer_id, "values", "k4", 4), NOW)
    ledger.write(ALICE, draft(ALICE.peer_id, "values", "k0", "again"), NOW)
    ledger.write(BOB, draft(BOB.peer_id, "values", "b", 1), NOW)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 5)), max_size=20), st.randoms())
def test_two_ledgers_that_took_the_same_entries_in_any_order_agree(
    writes: list[tuple[bool, int, int]], random: object
) -> None:
    source = {True: Ledger(NETWORK), False: Ledger(NETWORK)}
    made = []
    for is_alice, key, value in writes:
        who = ALICE if is_alice else BOB
        made.append(source[is_alice].write(who, draft(who.peer_id, "values", f"k{key}", value or None), NOW).entry.raw)
    digests = set()
    for _ in range(3):
        random.shuffle(made)
        ledger = Ledger(NETWORK)
        for raw in made:
            try:
                ledger.take(raw, NOW)
            except ProtocolError as error:
                assert error.drop == "stale"
        digests.add((ledger.digest, len(ledger)))
    assert len(digests) == 1


def test_the_hybrid_clock_never_goes_back() -> None:
    clock = HybridClock()
    first = clock.tick(NOW)
    assert clock.tick(NOW - 100) > first
    clock.observe(stamp(NOW + 500), NOW)
    assert clock.tick(NOW) > stamp(NOW + 500)
