"""One synchronisation in flight: a node that is being filled is not filled by others too."""

from random import Random

import pytest

from kairos_core.model import Address
from kairos_core.protocol.agreement import FILLING
from kairos_core.protocol.gossip import Gossip, SyncWanted
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Ledger, draft
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.seal import DatagramSeal
from kairos_core.protocol.spreading import ANNOUNCED_BURST
from kairos_core.protocol.token import new_token
from kairos_core.protocol.wire import Cells, Compare, Datagram, Have, decode_datagram

UNIX = 1_800_000_000.0
KEYRING = Keyring(new_token(Random(1).choice))
HERE, THERE, ELSEWHERE = Address("10.0.0.1", 7373), Address("10.0.0.2", 7373), Address("10.0.0.3", 7373)


def machine(who: Identity) -> Gossip:
    return Gossip(who, KEYRING, Ledger(KEYRING.network), Random(who.peer_id.public_key))


def said(sender: Gossip) -> list[tuple[Datagram, Address]]:
    seal = DatagramSeal()
    seal.use(KEYRING.accepted(UNIX))
    return [(decode_datagram(seal.open(data))[1], to) for data, to in sender.datagrams_to_send()]


def entries(author: Identity, count: int) -> list[bytes]:
    ledger = Ledger(KEYRING.network)
    return [
        ledger.write(author, draft(author.peer_id, "values", f"{author.peer_id}/{n}", n), UNIX).entry.raw
        for n in range(count)
    ]


@pytest.fixture
def filled(alice: Identity, bob: Identity) -> tuple[Gossip, Gossip]:
    """A newcomer to which a stream brings entries, and a further peer of it."""
    newcomer, other = machine(alice), machine(bob)
    newcomer.met(bob.peer_id, ELSEWHERE, 0.0)
    other.met(alice.peer_id, HERE, 0.0)
    newcomer.take_entries(entries(Identity(b"c" * 32), 32), 10.0, UNIX, sender=Identity(b"d" * 32).peer_id)
    said(newcomer)
    return newcomer, other


def meet(one: Gossip, other: Gossip, now: float) -> list[Datagram]:
    """Let one ping the other; return what the two say then."""
    heard: list[Datagram] = []
    one.handle_timer(now, UNIX)
    addresses = {one: HERE, other: ELSEWHERE}
    while waiting := [(each, data) for each in (one, other) for data, _ in each.datagrams_to_send()]:
        for sender, data in waiting:
            seal = DatagramSeal()
            seal.use(KEYRING.accepted(UNIX))
            heard.append(decode_datagram(seal.open(data))[1])
            (other if sender is one else one).receive_datagram(data, addresses[sender], now, UNIX)
    return heard


def test_whoever_is_being_filled_compares_with_nobody(filled: tuple[Gossip, Gossip]) -> None:
    newcomer, other = filled
    assert not [each for each in meet(newcomer, other, 10.0 + FILLING - 0.5) if isinstance(each, Compare)]
    assert [each for each in meet(newcomer, other, 10.0 + FILLING + 1.0) if isinstance(each, Compare)]


def test_who_compares_with_one_that_is_being_filled_is_told_to_come_later(filled: tuple[Gossip, Gossip]) -> None:
    newcomer, other = filled
    heard = meet(other, newcomer, 10.5)
    assert [each for each in heard if isinstance(each, Cells)] == [Cells(newcomer.ledger.digest, 0, b"")]
    assert other._agreement._current is None
    other.handle_timer(12.0, UNIX)
    assert not [event for event in iter(other.next_event, None) if isinstance(event, SyncWanted)], "nor takes a stream"
    newcomer.synced(other.identity.peer_id, 12.5)
    later = [each for now in (14.0, 15.1, 16.2, 17.3) for each in meet(other, newcomer, now)]
    assert next(each.cells for each in later if isinstance(each, Cells)), "when that is over, it answers"
    assert other.ledger.digest == newcomer.ledger.digest


def test_what_a_stream_brings_is_announced_up_to_a_bound(alice: Identity, bob: Identity) -> None:
    newcomer = machine(alice)
    newcomer.met(bob.peer_id, ELSEWHERE, 0.0)
    for author in range(3):
        raws = entries(Identity(bytes([author + 1]) * 32), 1000)
        for at in range(0, len(raws), 32):
            newcomer.take_entries(raws[at : at + 32], 10.0, UNIX, sender=Identity(b"d" * 32).peer_id)
    announced = [i for message, _ in said(newcomer) if isinstance(message, Have) for i in message.ids]
    assert ANNOUNCED_BURST - 32 <= len(announced) <= ANNOUNCED_BURST


def test_what_is_too_large_for_datagrams_is_fetched_as_soon_as_the_comparison_finds_it(
    alice: Identity, bob: Identity
) -> None:
    one, other = machine(alice), machine(bob)
    one.met(bob.peer_id, ELSEWHERE, 0.0)
    other.met(alice.peer_id, HERE, 0.0)
    large = other.ledger.write(bob, draft(bob.peer_id, "values", "large", "x" * 2000), UNIX).entry
    meet(one, other, 1.0)
    asked = [event for event in iter(one.next_event, None) if isinstance(event, SyncWanted)]
    assert asked == [SyncWanted(bob.peer_id, ELSEWHERE, (), (large.short_id,))]
    meet(one, other, 2.5)  # the stream may have to wait for others: it is not asked for again at once
    assert not [event for event in iter(one.next_event, None) if isinstance(event, SyncWanted)]
