from random import Random

import pytest

from kairos_core.errors import ProtocolError
from kairos_core.model import Address
from kairos_core.protocol.gossip import Gossip, PeerAlive, PeerDead, SyncWanted
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import MAX_RENEWALS, Ledger, draft
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.pace import MAX_BUCKETS, Pace
from kairos_core.protocol.token import new_token

UNIX = 1_800_000_000.0
KEYRING = Keyring(new_token(Random(1).choice))
HERE, THERE = Address("10.0.0.1", 7373), Address("10.0.0.2", 7373)


@pytest.fixture
def pair(alice: Identity, bob: Identity) -> tuple[Gossip, Gossip]:
    one, other = (Gossip(who, KEYRING, Ledger(KEYRING.network), Random(seed)) for seed, who in enumerate((alice, bob)))
    one.met(bob.peer_id, THERE, 0.0)
    other.met(alice.peer_id, HERE, 0.0)
    return one, other


def events(gossip: Gossip) -> list[object]:
    found = []
    while (event := gossip.next_event()) is not None:
        found.append(event)
    return found


def test_a_replayed_datagram_is_counted_and_does_nothing(pair: tuple[Gossip, Gossip]) -> None:
    one, other = pair
    one.handle_timer(1.0, UNIX)
    (datagram, destination), *_ = list(one.datagrams_to_send())
    assert destination == THERE
    other.receive_datagram(datagram, HERE, 1.0, UNIX)
    assert len(list(other.datagrams_to_send())) == 1
    other.receive_datagram(datagram, HERE, 1.1, UNIX)
    assert list(other.datagrams_to_send()) == []
    assert other.drops == {"replayed": 1}


def test_silence_makes_a_suspect_and_then_a_dead_peer(pair: tuple[Gossip, Gossip], bob: Identity) -> None:
    one, _ = pair
    assert events(one) == [PeerAlive(bob.peer_id)]
    now, lives = 0.0, []
    while now < 10.0:
        now = max(one.next_timer(), now + 0.001)
        one.handle_timer(now, UNIX + now)
        lives.append((round(now, 1), one.membership.members[bob.peer_id].life.name))
    assert [event for event in events(one) if not isinstance(event, SyncWanted)] == [PeerDead(bob.peer_id)]
    assert [name for at, (_, name) in enumerate(lives) if at == 0 or lives[at - 1][1] != name] == [
        "ALIVE",
        "SUSPECT",
        "DEAD",
    ]


def test_a_node_that_was_asleep_itself_asks_once_more_before_it_suspects(
    pair: tuple[Gossip, Gossip], bob: Identity
) -> None:
    one, other = pair
    one.handle_timer(1.0, UNIX)
    pings = list(one.datagrams_to_send())
    for datagram, _ in pings:
        other.receive_datagram(datagram, HERE, 1.0, UNIX)
    one.handle_timer(1000.0, UNIX + 999.0)  # the answers have waited in the socket since
    for datagram, _ in other.datagrams_to_send():
        one.receive_datagram(datagram, THERE, 1000.0, UNIX + 999.0)
    one.handle_timer(1000.6, UNIX + 999.6)
    assert [member.life.name for member in one.membership.alive()] == ["ALIVE"]
    assert PeerDead(bob.peer_id) not in events(one)


def test_whoever_speaks_on_a_stream_is_not_called_dead(pair: tuple[Gossip, Gossip], bob: Identity) -> None:
    one, _ = pair
    for tenth in range(200):
        one.heard(bob.peer_id, tenth / 10)
        one.handle_timer(tenth / 10, UNIX)
    assert [member.peer for member in one.membership.alive()] == [bob.peer_id]


def test_random_bytes_and_strangers_are_counted(pair: tuple[Gossip, Gossip]) -> None:
    one, _ = pair
    stranger = Gossip(Identity(b"s" * 32), KEYRING, Ledger(KEYRING.network), Random(9))
    stranger.write(draft(stranger.identity.peer_id, "values", "of a stranger", 1), 0.0, UNIX)
    stranger.met(one.identity.peer_id, HERE, 0.0)
    stranger._spreader._announce(list(stranger.ledger.read(UNIX)), [HERE])
    for datagram, _ in stranger.datagrams_to_send():
        one.receive_datagram(datagram, THERE, 1.0, UNIX)
    one.receive_datagram(b"noise", THERE, 1.0, UNIX)
    assert one.drops == {"unknown_sender": 1, "truncated": 1}


def test_a_pace_gives_a_burst_and_then_its_rate_to_each_by_itself() -> None:
    pace = Pace(rate=20.0, burst=256.0)
    for _ in range(256):
        assert pace.has("a", 1.0, 100.0)
        pace.spend("a", 1.0, 100.0)
    assert not pace.has("a", 1.0, 100.0)
    assert pace.has("b", 1.0, 100.0)
    assert pace.has("a", 20.0, 101.0)
    assert not pace.has("a", 21.0, 101.0)
    assert not pace.has("a", 1.0, 50.0), "a clock that was set back gives nothing"
    for number in range(2 * MAX_BUCKETS):
        pace.spend(number, 1.0, 101.0)
    assert len(pace._buckets) == MAX_BUCKETS


def test_replacing_entries_faster_than_the_pace_is_refused_on_every_lane(alice: Identity) -> None:
    writer, reader = Ledger(KEYRING.network), Ledger(KEYRING.network)
    refused = 0
    for n in range(300):
        raw = writer.write(alice, draft(alice.peer_id, "values", "same key", n), UNIX).entry.raw
        try:
            reader.take(raw, UNIX)
        except ProtocolError as error:
            assert error.drop == "too_fast"
            refused += 1
    assert refused == 300 - 256 - 1, "the first one replaced nothing"


def test_a_joining_node_takes_all_keys_of_one_author_at_once(alice: Identity) -> None:
    writer, reader = Ledger(KEYRING.network), Ledger(KEYRING.network)
    for n in range(600):
        reader.take(writer.write(alice, draft(alice.peer_id, "values", f"{n}", n), UNIX).entry.raw, UNIX)
    assert len(reader) == 600
    assert len(writer.renewals(alice.peer_id, UNIX + 22_000)) == MAX_RENEWALS


def test_a_peer_is_named_by_its_tag_in_this_network_only(alice: Identity) -> None:
    other = Keyring(new_token(Random(2).choice))
    here, there = (Gossip(alice, keyring, Ledger(keyring.network), Random(0)) for keyring in (KEYRING, other))
    assert here._tag != there._tag
