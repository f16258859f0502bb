"""What a member with the right token may write, and what it must not bring about."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.cluster.reading import read_view
from kairos_core.model import Address, PeerId
from kairos_core.protocol.clock import stamp
from kairos_core.protocol.entry import LEASE, Entry, pack, sign_entry
from kairos_core.protocol.gossip import Gossip, addresses_of
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Ledger
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.token import new_token
from kairos_core.protocol.wire import Ping, encode_datagram, tag_of

NOW = 1_800_000_000.0
KEYRING = Keyring(new_token(Random(1).choice))
MEMBER = Identity(b"m" * 32)

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(["network_id", "name", "kind", "wish", "seal_key", "addresses", "role", "ha", "endpoint"])
descriptions = st.dictionaries(fields, anything | st.just("kairos"), max_size=9)


def machine() -> Gossip:
    return Gossip(Identity(b"u" * 32), KEYRING, Ledger(KEYRING.network), Random(2))


def entry(value: object, bucket: str = "peers", key: str = "") -> Entry:
    written = Entry(bucket, key or str(MEMBER.peer_id), pack(value), MEMBER.peer_id, stamp(NOW))
    return sign_entry(written, MEMBER, KEYRING.network)


@given(anything | descriptions, st.sampled_from(["peers", "reports", "clusters", "assignments", "registers", "leases"]))
def test_whatever_a_member_writes_no_reader_fails(value: object, bucket: str) -> None:
    gossip = machine()
    gossip.take_entries([entry(value, bucket).raw], 0.0, NOW, sender=MEMBER.peer_id)
    gossip.handle_timer(0.0, NOW)
    read_view(gossip.ledger.read(NOW), gossip.identity.peer_id, frozenset(), "kairos")


@pytest.mark.parametrize(
    "addresses",
    [
        *(None, 5, {"a": 1}, "10.0.0.1:1", [b"10.0.0.1:1", 7, None, [], {}]),
        *(["example.org:1"], ["10.0.0.1"], ["10.0.0.1:0"], ["[fe80::1%eth0]:1"], ["[fe80::1%a\0b]:1"], ["a" * 9999]),
    ],
)
def test_what_is_no_address_of_a_peer_is_left_out(addresses: object) -> None:
    assert addresses_of(entry({"addresses": addresses})) == []


def test_addresses_are_taken_as_they_are_and_only_so_many() -> None:
    told = ["10.0.0.1:7373", "[2001:db8::1]:7373", *(f"10.0.1.{n}:1" for n in range(20))]
    found = addresses_of(entry({"addresses": told}))
    assert found[:2] == [Address("10.0.0.1", 7373), Address("2001:db8::1", 7373)]
    assert len(found) == 8


def test_a_member_without_an_address_does_not_keep_the_event_loop_busy() -> None:
    gossip = machine()
    gossip.take_entries([entry({"addresses": []}).raw], 0.0, NOW, sender=MEMBER.peer_id)
    turns, now = 0, 0.0
    while now < 60.0 and turns < 1000:
        now = max(now, gossip.next_timer())
        if now < 60.0:
            gossip.handle_timer(now, NOW + now)
            turns += 1
    assert turns < 300


def test_a_peer_that_is_silent_and_no_longer_in_the_ledger_is_forgotten() -> None:
    gossip = machine()
    gossip.take_entries([entry({"addresses": ["10.0.0.1:1"]}).raw], 0.0, NOW, sender=MEMBER.peer_id)
    gossip.expire(NOW + LEASE - 1)
    assert MEMBER.peer_id in gossip.membership.members
    gossip.expire(NOW + LEASE + 1)
    assert MEMBER.peer_id not in gossip.membership.members


def test_a_peer_that_answers_stays_though_its_entry_ran_out() -> None:
    gossip = machine()
    gossip.take_entries([entry({"addresses": ["10.0.0.1:1"]}).raw], 0.0, NOW, sender=MEMBER.peer_id)
    gossip.met(MEMBER.peer_id, Address("10.0.0.1", 1), 0.0)
    gossip.expire(NOW + LEASE + 1)
    assert MEMBER.peer_id in gossip.membership.members


@given(st.binary(max_size=1300))
def test_no_datagram_fails_whatever_is_in_it(plaintext: bytes) -> None:
    """The seal is a member's own: it is what lies inside that is hostile."""
    gossip = machine()
    gossip.take_entries([entry({"addresses": ["10.0.0.1:1"]}).raw], 0.0, NOW, sender=MEMBER.peer_id)
    gossip._seal.use(KEYRING.accepted(NOW))
    for inside in (plaintext, plaintext[:1] + tag_of(MEMBER.peer_id, KEYRING.network) + plaintext[1:]):
        gossip.receive_datagram(gossip._seal.seal(inside, bytes(12)), Address("10.0.0.1", 1), 0.0, NOW)


def test_a_datagram_that_comes_again_is_dropped_whatever_it_says() -> None:
    gossip, source = machine(), Address("10.0.0.1", 1)
    gossip.take_entries([entry({"addresses": [str(source)]}).raw], 0.0, NOW, sender=MEMBER.peer_id)
    gossip._seal.use(KEYRING.accepted(NOW))
    ping = encode_datagram(tag_of(MEMBER.peer_id, KEYRING.network), Ping(1, 0, bytes(8)))
    sealed = gossip._seal.seal(ping, bytes(12))
    for _ in range(3):
        gossip.receive_datagram(sealed, source, 0.0, NOW)
    assert gossip.drops == {"replayed": 2}
    assert len(list(gossip.datagrams_to_send())) == 1, "one answer"


def test_a_peer_id_is_not_made_of_what_is_not_one() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PeerId(b"short")
