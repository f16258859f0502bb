from functools import reduce
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from kairos_core.protocol.buckets import Policy, is_writer, merge, policy_of
from kairos_core.protocol.entry import TOMBSTONE, Entry, pack, sign_entry
from kairos_core.protocol.identity import Identity

NETWORK = b"n" * 16
PEOPLE = [Identity(bytes([n]) * 32) for n in range(1, 4)]
BUCKETS = {"own": "peers", "lww": "values", "claim": "claims", "mono": "registers"}


@st.composite
def entries(draw: st.DrawFn, bucket: str) -> Entry:
    who = draw(st.sampled_from(PEOPLE))
    deleted = draw(st.booleans())
    value = pack([draw(st.binary(max_size=2)), draw(st.integers(0, 3))])
    entry = Entry(
        bucket,
        "same key",
        b"" if deleted else value,
        who.peer_id,
        draw(st.integers(0, 3)),
        TOMBSTONE if deleted else 0,
        60,
        draw(st.integers(0, 3)),
    )
    return sign_entry(entry, who, NETWORK)


@given(st.data(), st.sampled_from(sorted(BUCKETS)))
def test_merge_does_not_depend_on_order_or_repetition(data: st.DataObject, policy: str) -> None:
    some = data.draw(st.lists(entries(BUCKETS[policy]), min_size=2, max_size=4))
    winners = {reduce(merge, [*order, order[0]]).id for order in permutations(some)}
    assert len(winners) == 1


@given(st.data(), st.sampled_from(sorted(BUCKETS)))
def test_merge_is_associative(data: st.DataObject, policy: str) -> None:
    a, b, c = (data.draw(entries(BUCKETS[policy])) for _ in range(3))
    assert merge(merge(a, b), c).id == merge(a, merge(b, c)).id


def test_each_policy_is_covered_above() -> None:
    assert {policy_of(bucket) for bucket in BUCKETS.values()} == set(Policy)


def test_nobody_writes_for_another() -> None:
    alice, bob = PEOPLE[0].peer_id, PEOPLE[1].peer_id
    assert is_writer("peers", str(alice), alice)
    assert is_writer("leases", f"10.1.0.7/{alice}", alice)
    assert not is_writer("peers", str(alice), bob)
    assert not is_writer("leases", f"10.1.0.7/{alice}", bob)
    assert not is_writer("a plugin's topic", str(alice), bob)
    assert is_writer("values", "anything", bob)


def test_the_first_claim_stays_and_its_holder_may_renew_it() -> None:
    def claim(who: Identity, since: int, hlc: int) -> Entry:
        return sign_entry(Entry("claims", "k", pack(None), who.peer_id, hlc, epoch=since), who, NETWORK)

    first, late, renewal = claim(PEOPLE[0], 5, 5), claim(PEOPLE[1], 6, 9), claim(PEOPLE[0], 5, 20)
    assert merge(first, late) is first
    assert merge(first, renewal) is renewal
    assert merge(renewal, late) is renewal
