"""What voters write, and what of it is refused."""

from hypothesis import given
from hypothesis import strategies as st

from kairos_core.cluster import recovery
from kairos_core.cluster.quorum import Ballot, Ballots, Decision, Register
from kairos_core.model import PeerId

PEERS = [PeerId(bytes([n]) * 32) for n in range(1, 8)]


def test_an_older_disk_is_noticed_by_our_own_signed_register() -> None:
    ballot, value = Ballot(3, PEERS[1]), Decision("kairos-1", PEERS[1], "i")
    old, new = Ballots(Register(Ballot(2, PEERS[1]))), Register(ballot, ballot, value)
    assert recovery.is_outranked(old, new)
    assert recovery.is_outranked(Ballots(), new)
    assert not recovery.is_outranked(Ballots(new), new)
    assert not recovery.is_outranked(Ballots(new), old.register)
    assert not recovery.is_outranked(Ballots(), None)


@given(st.binary(max_size=90), st.one_of(st.none(), st.dictionaries(st.text(max_size=12), st.integers())))
def test_a_register_of_random_content_is_refused_cleanly(rank: bytes, value: dict[str, int] | None) -> None:
    try:
        Register.decode(rank, value)
    except (ValueError, KeyError, TypeError):
        return
    assert len(rank) >= 40


def test_messages_survive_their_encoding() -> None:
    ballot = Ballot(7, PEERS[0])
    value = Decision("kairos-1", PEERS[1], "abc", (PEERS[2],), 2)
    assert Ballot.decode(ballot.encode()) == ballot
    assert Decision.decode(value.encode()) == value
    for register in (Register(ballot), Register(ballot, ballot, value)):
        assert Register.decode(*register.encode()) == register


def test_ballots_sort_as_their_bytes_do() -> None:
    ballots = [Ballot(n, peer) for n in (0, 1, 255, 256) for peer in PEERS]
    assert sorted(ballots) == sorted(ballots, key=Ballot.encode)
