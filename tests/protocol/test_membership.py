from collections.abc import Iterable
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.errors import ProtocolError
from kairos_core.model import Address, PeerId
from kairos_core.protocol.membership import MAX_LEAP, Member, Membership
from kairos_core.protocol.news import CARRIED, Outbox
from kairos_core.protocol.wire import Life, News

NOW = 1000.0
US = b"\x50" * 8


def table(*tags: int) -> tuple[Membership, list[Member]]:
    membership = Membership(US)
    members = []
    for tag in tags:
        member, is_new = membership.add(PeerId(bytes([tag]) * 32), bytes([tag]) * 8, [Address(f"10.0.0.{tag}", 7373)])
        assert is_new
        membership.saw(member, 0.0, incarnation=5)
        members.append(member)
    return membership, members


def test_of_two_pieces_of_news_the_greater_incarnation_holds_and_within_one_the_worse() -> None:
    membership, (member,) = table(1)
    assert membership.believe(member, News(Life.SUSPECT, 5, member.tag), NOW)
    assert not membership.believe(member, News(Life.ALIVE, 5, member.tag), NOW), "no refutation: the same incarnation"
    assert membership.believe(member, News(Life.ALIVE, 6, member.tag), NOW)
    assert not membership.believe(member, News(Life.SUSPECT, 5, member.tag), NOW), "old news"
    assert member.life is Life.ALIVE
    assert membership.believe(member, News(Life.DEAD, 6, member.tag), NOW)
    assert not member.alive
    assert not membership.believe(member, News(Life.SUSPECT, 6, member.tag), NOW)
    assert membership.believe(member, News(Life.ALIVE, 7, member.tag), NOW)
    assert member.alive


def test_whoever_has_just_spoken_with_us_is_never_called_dead() -> None:
    membership, (member,) = table(1)
    membership.saw(member, NOW - 0.5)
    membership.believe(member, News(Life.DEAD, 5, member.tag), NOW)
    assert member.life is Life.SUSPECT, "it is asked again, by ourselves"


def test_no_false_message_uses_up_a_peer_s_incarnations() -> None:
    membership, (member,) = table(1)
    with pytest.raises(ProtocolError, match="bad_news"):
        membership.believe(member, News(Life.DEAD, 5 + MAX_LEAP + 1, member.tag), NOW)
    assert member.alive


def test_a_peer_that_the_ledger_names_is_alive_only_when_it_has_answered() -> None:
    membership = Membership(US)
    member, _ = membership.add(PeerId(b"p" * 32), b"t" * 8, [])
    membership.believe(member, News(Life.ALIVE, 9, member.tag), NOW)
    assert not member.alive
    membership.saw(member, NOW, incarnation=9)
    assert [m.peer for m in membership.alive()] == [member.peer]


def test_the_ring_of_the_living_goes_by_tags_and_closes() -> None:
    membership, (one, two, three) = table(0x10, 0x60, 0x90)
    assert membership.neighbours() == (one, two)
    membership.become(two, Life.DEAD)
    assert membership.neighbours() == (one, three)
    membership.forget(one.peer)
    assert membership.neighbours() == (three, three)
    membership.forget(three.peer)
    assert membership.neighbours() == (None, None)
    assert membership.size == 1


PEERS = [PeerId(bytes([number]) * 32) for number in range(1, 40)]
TAGS = [Random(number).randbytes(8) for number in range(1, 40)]


def seeing(us: bytes, alive: Iterable[int]) -> Membership:
    membership = Membership(us)
    for number, tag in enumerate(TAGS):
        if tag != us:
            member, _ = membership.add(PEERS[number], tag, [])
            if number in alive:
                membership.become(member, Life.ALIVE)
    return membership


@given(st.sets(st.integers(2, 38)), st.integers(2, 38), st.integers(0, (1 << 32) - 1))
def test_the_census_of_two_differs_by_the_very_peer_that_lives_for_one_only(
    alive: set[int], odd: int, nonce: int
) -> None:
    one, other = seeing(TAGS[0], alive | {0, 1}), seeing(TAGS[1], (alive | {0, 1}) ^ {odd})
    assert one.odd_one(nonce, seeing(TAGS[1], alive | {0, 1}).census(nonce)) is None, "they see the same"
    for each, census in ((one, other.census(nonce)), (other, one.census(nonce))):
        found = each.odd_one(nonce, census)
        assert found in (None, each.by_tag(TAGS[odd]))
        assert found is not None or nonce % 8, "a census of the whole misses nobody"


@given(st.sets(st.integers(2, 38)), st.sets(st.integers(2, 38)), st.integers(0, 1 << 32))
def test_whatever_differs_is_found_one_by_one(ours: set[int], theirs: set[int], seed: int) -> None:
    one, other = seeing(TAGS[0], ours | {1}), seeing(TAGS[1], theirs | {0})
    random = Random(seed)
    for pings in count(1):
        if not ours ^ theirs:
            break
        assert pings < 2_000, "a ping in six or better finds one"
        nonce = random.getrandbits(32)
        found = one.odd_one(nonce, other.census(nonce))
        if found is not None:
            assert TAGS.index(found.tag) in ours ^ theirs
            ours ^= {TAGS.index(found.tag)}
            one.become(found, Life.DEAD if found.alive else Life.ALIVE)


def test_suspects_have_more_time_in_larger_networks() -> None:
    small, _ = table(1)
    large, _ = table(*range(1, 0x50), *range(0x51, 0xFF))
    assert small.suspicion == 1.5
    assert 2.5 < large.suspicion < 3.0


def test_news_is_carried_a_bounded_number_of_times_and_the_newest_of_a_peer_only() -> None:
    outbox = Outbox()
    outbox.add(News(Life.SUSPECT, 1, b"a" * 8), members=50, now=NOW)
    outbox.add(News(Life.DEAD, 1, b"a" * 8), members=50, now=NOW)
    carried = [outbox.to_carry() for _ in range(20)]
    assert [items[0].life for items in carried if items] == [Life.DEAD] * 6
    assert list(outbox.to_push(NOW)) == [], "gathered for a moment"
    assert list(outbox.to_push(NOW + 1)) == [(News(Life.DEAD, 1, b"a" * 8),)]
    assert list(outbox.to_push(NOW + 2)) == []


def test_a_suspect_is_told_first_and_no_datagram_carries_more_than_fits() -> None:
    outbox = Outbox()
    for n in range(100):
        outbox.add(News(Life.DEAD, 1, bytes([n]) * 8), members=200, now=NOW)
    first = News(Life.SUSPECT, 1, b"z" * 8)
    items = outbox.to_carry(first)
    assert items[0] == first
    assert len(items) == CARRIED
    assert [len(batch) for batch in outbox.to_push(NOW + 1)] == [64, 36]
