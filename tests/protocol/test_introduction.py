from random import Random

import pytest

from kairos_core.model import Address
from kairos_core.protocol.entry import sign_entry
from kairos_core.protocol.gossip import Gossip
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Ledger, draft
from kairos_core.protocol.membership import Member
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.seal import DatagramSeal
from kairos_core.protocol.token import new_token
from kairos_core.protocol.welcome import GATHER, MAX_TOLD, MAX_WELCOMED, WELCOME, Welcome
from kairos_core.protocol.wire import Have, Ping, Push, Who, decode_datagram, encode_datagram, tag_of

UNIX = 1_800_000_000.0
KEYRING = Keyring(new_token(Random(1).choice))
HERE, THERE = Address("10.0.0.1", 7373), Address("10.0.0.2", 7373)


class Machine(Gossip):
    """A gossip machine that has told the ledger of itself and lets its datagrams be taken."""

    def __init__(self, who: Identity, address: Address) -> None:
        super().__init__(who, KEYRING, Ledger(KEYRING.network), Random(who.peer_id.public_key))
        self.address = address
        self.write(draft(who.peer_id, "peers", str(who.peer_id), {"addresses": [str(address)]}), 0.0, UNIX)
        list(self.datagrams_to_send())

    def knows(self, other: Gossip) -> bool:
        return other.identity.peer_id in {member.peer for member in self.membership.alive()}


def exchange(one: Machine, other: Machine, now: float = 1.0) -> list[str]:
    """Carry datagrams between two machines until neither has any; return what they were."""
    seal, said = DatagramSeal(), []
    seal.use(KEYRING.accepted(UNIX))
    while waiting := [(machine, data) for machine in (one, other) for data, _ in machine.datagrams_to_send()]:
        for sender, data in waiting:
            said.append(type(decode_datagram(seal.open(data))[1]).__name__)
            receiver = other if sender is one else one
            receiver.receive_datagram(data, sender.address, now, UNIX)
        for machine in (one, other):
            machine.handle_timer(now, UNIX)
    return said


@pytest.fixture
def pair(alice: Identity, bob: Identity) -> tuple[Machine, Machine]:
    return Machine(alice, HERE), Machine(bob, THERE)


def said_by(machine: Gossip, message: object, sender: Identity, source: Address = THERE) -> None:
    seal = DatagramSeal()
    seal.use(KEYRING.accepted(UNIX))
    data = seal.seal(encode_datagram(tag_of(sender.peer_id, KEYRING.network), message), Random().randbytes(12))  # type: ignore[arg-type]
    machine.receive_datagram(data, source, 1.0, UNIX)


def test_two_strangers_know_each_other_after_one_has_hailed_the_other(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    one.hail(THERE, UNIX)
    said = exchange(one, other)
    assert said[:4] == ["Push", "Ping", "Who", "Push"]
    assert one.knows(other)
    assert other.knows(one)
    assert one.ledger.digest == other.ledger.digest
    assert not one.drops
    assert not other.drops


def test_whoever_pings_before_its_entry_has_come_is_asked_for_it(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    one.take_entries([entry.raw for entry in other.ledger.read(UNIX)], 1.0, UNIX, sender=other.identity.peer_id)
    list(one.datagrams_to_send())
    one.handle_timer(1.0, UNIX)
    assert exchange(one, other)[:3] == ["Ping", "Who", "Push"]
    assert one.knows(other)
    assert other.knows(one)


def test_a_peer_that_was_hailed_is_tried_first_where_its_datagram_came_from(
    pair: tuple[Machine, Machine], bob: Identity
) -> None:
    one, other = pair
    elsewhere = Address("192.0.2.7", 40_000)
    other.hail(HERE, UNIX)
    for data, _ in other.datagrams_to_send():
        one.receive_datagram(data, elsewhere, 1.0, UNIX)
    assert one.membership.members[bob.peer_id].candidates == [elsewhere, THERE]


def test_a_stranger_may_introduce_only_itself(pair: tuple[Machine, Machine], bob: Identity) -> None:
    one, other = pair
    third = Identity(b"c" * 32)
    of_third = sign_entry(draft(third.peer_id, "peers", str(third.peer_id), {}), third, KEYRING.network)
    of_bob = sign_entry(draft(bob.peer_id, "values", "key", 1), bob, KEYRING.network)
    own = next(iter(other.ledger.read(UNIX)))
    for message in (Push((of_third.raw,)), Push((of_bob.raw,)), Push((own.raw, own.raw)), Have((bytes(8),))):
        said_by(one, message, bob)
    assert one.drops == {"unknown_sender": 4}
    assert not one.membership.members


def test_a_forged_introduction_makes_nobody_a_member(pair: tuple[Machine, Machine], bob: Identity) -> None:
    one, other = pair
    raw = next(iter(other.ledger.read(UNIX))).raw
    said_by(one, Push((raw[:-64] + bytes(64),)), bob)
    assert one.drops == {"bad_signature": 1}
    assert not one.membership.members


def test_a_stranger_s_ping_draws_an_answer_no_longer_than_itself(pair: tuple[Machine, Machine], bob: Identity) -> None:
    one, _ = pair
    said_by(one, Ping(1, 1, bytes(8)), bob)
    (answer, destination), *more = list(one.datagrams_to_send())
    assert (destination, more) == (THERE, [])
    ping = encode_datagram(bytes(8), Ping(1, 1, bytes(8)))
    seal = DatagramSeal()
    seal.use(KEYRING.accepted(UNIX))
    assert len(seal.open(answer)) == len(ping)


def test_who_that_answers_no_question_of_ours_is_not_given_our_entry(pair: tuple[Machine, Machine]) -> None:
    one, other = pair
    one.met(other.identity.peer_id, THERE, 0.0)
    list(one.datagrams_to_send())
    said_by(one, Who(12345, 1, bytes(8)), other.identity)
    assert list(one.datagrams_to_send()) == []
    assert one.drops == {"replayed": 1}


def member(number: int) -> Member:
    peer = Identity(number.to_bytes(32)).peer_id
    return Member(peer, number.to_bytes(8), [Address(f"10.0.{number >> 8}.{number & 255}", 1)])


def test_a_newcomer_is_told_of_all_that_comes_in_its_first_second_and_of_nothing_later() -> None:
    welcome, newcomer, author = Welcome(), member(1), member(2)
    welcome.add(newcomer, 10.0)
    welcome.note(b"before it", {author.peer}, 10.0)
    welcome.note(b"its own", {newcomer.peer}, 10.01)
    welcome.note(b"later", {author.peer}, 10.05)
    assert list(welcome.to_send(10.05)) == [], "what comes together goes together"
    assert list(welcome.to_send(welcome.due)) == [(newcomer.address, [b"before it", b"later"])]
    assert welcome.due == float("inf")
    welcome.note(b"too late", {author.peer}, 10.0 + WELCOME)
    assert welcome.due == float("inf")


def test_what_newcomers_are_told_is_bounded() -> None:
    welcome = Welcome()
    for number in range(2 * MAX_WELCOMED):
        welcome.add(member(number), 1.0)
    for number in range(2 * MAX_TOLD):
        welcome.note(number.to_bytes(8), set(), 1.0)
    told = list(welcome.to_send(1.0 + GATHER))
    assert len(told) == MAX_WELCOMED
    assert {len(ids) for _, ids in told} == {MAX_TOLD}
