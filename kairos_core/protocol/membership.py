"""Who is a member and how each is doing: a table of peers, and the rules by which news of a life is believed.

Source: Das, Gupta, Motivala 2002, "SWIM", section 4.2; suspicion and the order of news are its. A member is unknown
(the ledger names it), alive, suspect, or dead. Of two pieces of news the greater incarnation holds, and within one
the worse; only the member itself raises its incarnation, and so refutes what is said of it. What we see with our own
eyes (an answer to our fresh nonce, a message on an authenticated stream) comes before what others say.

News may be lost on its way to one of a thousand. So each ping carries a census of the living, which two that see the
same peers alive compute alike: the exclusive or of their tags. Where one peer makes the difference, the two censuses
differ by its very tag, and whoever finds it there looks for itself. Where many differ, a census of all says nothing;
so the nonce of the ping draws a sample: all, or about a half, a quarter, … of them. However many differ, up to a
hundred or so, a sample in six or better holds just one. Source: Eppstein, Goodrich, Uyeda, Varghese 2011, "What's the
Difference?", section 3.2 (strata; ours have one cell, and are drawn anew each time).

Liveness stays beside the ledger and never enters a merge. `probing` asks the questions; this table only remembers.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import log10

from kairos_core.errors import ProtocolError
from kairos_core.model import Address, PeerId
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.wire import TAG, Life, News

SUSPICION = 1.2
"""Seconds, times log10 of the members, at least 1.5, that a suspect has to refute. Raising it forgives more loss and
longer stalls and finds the dead later; news needs about log10 of the members to reach all (SWIM, section 4.2)."""

MIN_SUSPICION = 1.5
"""Seconds, in small networks: time for another probe with help, which takes one."""

MAX_CANDIDATES = 8
"""Addresses tried for one peer. Stops a member from making us send to addresses of its choosing."""

DEPTHS = 8
"""Sizes of a census's sample, from all of the living down to one in 128. Raising it finds the differences between two
that differ in more than a hundred peers, and a single one later: it shows in a quarter of the pings now."""

_MASK = (1 << 64) - 1

MAX_LEAP = 1 << 20
"""By how much news may raise a known incarnation. One is the wall time of a start in seconds, so this is 12 days.
Stops a member from using up another's incarnations by one false message."""


@dataclass(slots=True, eq=False)
class Member:
    """One peer: where it may listen, and how it is doing. Times are monotonic seconds."""

    peer: PeerId
    tag: bytes
    candidates: list[Address] = field(default_factory=list)
    life: Life = Life.UNKNOWN
    incarnation: int = 0
    heard: float = -1e9
    suspected: float = -1e9  # since when
    misses: int = 0
    next_probe: float = float("inf")
    due: float = float("inf")  # when `probing` has to look at it next
    probe: tuple[int, float, bool] | None = None  # nonce, deadline, whether no second try follows

    @property
    def alive(self) -> bool:
        """A suspect is counted among the living until its time is up."""
        return self.life in (Life.ALIVE, Life.SUSPECT)

    @property
    def address(self) -> Address | None:
        """The address that answered last, else the first to try."""
        return self.candidates[0] if self.candidates else None

    @property
    def news(self) -> News:
        """What we would tell others of it."""
        return News(self.life, self.incarnation, self.tag)

    def learn(self, addresses: Iterable[Address]) -> None:
        """Add addresses to try, behind those known."""
        known = dict.fromkeys((*self.candidates, *addresses))
        self.candidates = list(known)[:MAX_CANDIDATES]

    def prefer(self, address: Address) -> None:
        """Put the address that just worked first."""
        if self.address != address:
            others = (known for known in self.candidates if known != address)
            self.candidates = [address, *others][:MAX_CANDIDATES]


class Membership:
    """The table of peers, without this node. `ours` is the tag of this node, its place in the ring."""

    def __init__(self, ours: bytes) -> None:
        self.members: dict[PeerId, Member] = {}
        self.dead: dict[PeerId, Member] = {}
        self._ours = ours
        self._by_tag: dict[bytes, Member] = {}
        self._ring: list[bytes] = []  # the tags of the living, in order
        self._census = int.from_bytes(ours)  # of the whole ring and us
        self._alive_peers: frozenset[PeerId] | None = None  # made again when somebody dies or comes back

    def add(self, peer: PeerId, tag: bytes, addresses: Sequence[Address]) -> tuple[Member, bool]:
        """Learn of a peer, or more addresses of a known one; say whether it is new."""
        member = self.members.get(peer)
        is_new = member is None
        if member is None:
            member = self.members[peer] = self._by_tag[tag] = Member(peer, tag)
        member.learn(addresses)
        return member, is_new

    def forget(self, peer: PeerId) -> None:
        """Drop a peer whose ledger entry is gone."""
        member = self.members.get(peer)
        if member is not None:
            self.become(member, Life.UNKNOWN)
            del self.members[peer], self._by_tag[member.tag]

    def by_tag(self, tag: bytes) -> Member | None:
        return self._by_tag.get(tag)

    def alive(self) -> list[Member]:
        """Return the peers that live, as far as we know; costs their number."""
        return [self._by_tag[tag] for tag in self._ring]

    @property
    def alive_peers(self) -> frozenset[PeerId]:
        """Who lives, as far as we know; the same object until that changes."""
        if self._alive_peers is None:
            self._alive_peers = frozenset(member.peer for member in self.alive())
        return self._alive_peers

    @property
    def size(self) -> int:
        """How many live, this node included."""
        return len(self._ring) + 1

    def living(self, place: int) -> Member:
        """Return the living peer at a place from 0 to size - 2, in the order of tags; costs nothing."""
        return self._by_tag[self._ring[place]]

    def neighbours(self) -> tuple[Member | None, Member | None]:
        """Return who comes before and after us in the ring of the living.

        The tags make the order, so all agree on it, and whatever everybody passes to a neighbour reaches everybody.
        """
        if not self._ring:
            return None, None
        at = bisect_left(self._ring, self._ours)
        return self.living(at - 1), self.living(at % len(self._ring))

    def census(self, nonce: int) -> bytes:
        """Return the exclusive or of the tags of the living, ours too, in the sample that a nonce draws.

        The nonce's last three bits are the sample's depth; the others, with a one behind, are a factor. The tags whose
        product with it, modulo 2^64, is below 2^(64 - depth) are in the sample. Costs 0.1 us for each that lives.
        """
        depth = nonce % DEPTHS
        if depth == 0:
            return self._census.to_bytes(TAG)
        factor, bound = nonce // DEPTHS << 1 | 1, 1 << (64 - depth)
        counted = 0
        for tag in (*self._ring, self._ours):
            number = int.from_bytes(tag)
            if number * factor & _MASK < bound:
                counted ^= number
        return counted.to_bytes(TAG)

    def odd_one(self, nonce: int, census: bytes) -> Member | None:
        """Return the member that lives for us and not for whoever sent this census, or the other way round.

        None where nothing differs, or too much to say what. Two differences are taken for a third tag with a
        probability of the members in 2^64.
        """
        differs = int.from_bytes(self.census(nonce)) ^ int.from_bytes(census)
        return self._by_tag.get(differs.to_bytes(TAG)) if differs else None

    @property
    def suspicion(self) -> float:
        """Seconds that a suspect has now."""
        return max(MIN_SUSPICION, SUSPICION * log10(self.size + 1))

    def become(self, member: Member, life: Life) -> None:
        """Note how a member is doing, in all the lists."""
        was_alive, member.life = member.alive, life
        if member.alive is not was_alive:
            self._alive_peers = None
            self._census ^= int.from_bytes(member.tag)
        if member.alive and not was_alive:
            insort(self._ring, member.tag)
        elif was_alive and not member.alive:
            del self._ring[bisect_left(self._ring, member.tag)]
        if life is Life.DEAD:
            self.dead[member.peer] = member
        else:
            self.dead.pop(member.peer, None)

    def saw(self, member: Member, now: float, incarnation: int | None = None) -> bool:
        """Note proof that a peer lives. Says whether others should hear of it: it refuted what was said of it."""
        was, then = member.life, member.incarnation
        member.heard, member.misses = now, 0
        if incarnation is not None:
            member.incarnation = incarnation
        self.become(member, Life.ALIVE)
        return was in (Life.SUSPECT, Life.DEAD) and member.incarnation > then

    def suspect(self, member: Member, now: float) -> None:
        """Begin to suspect a living member."""
        if member.life is Life.ALIVE:
            self.become(member, Life.SUSPECT)
            member.suspected = now

    def believe(self, member: Member, news: News, now: float) -> bool:
        """Take news of a member; say whether it was news. Raises ProtocolError (bad_news)."""
        # One that we met on a stream only has told us no incarnation yet.
        if member.incarnation and news.incarnation > member.incarnation + MAX_LEAP:
            raise ProtocolError(Drop.BAD_NEWS, "incarnation")
        if news.life is Life.ALIVE:
            return self._believe_alive(member, news)
        # Whoever has never lived for us can't be lost to us; whoever is dead stays it until a greater incarnation.
        if not member.alive or news.incarnation < member.incarnation:
            return False
        is_news = news.incarnation > member.incarnation or member.life < news.life
        if news.life is Life.DEAD and now - member.heard > self.suspicion:
            member.incarnation = news.incarnation
            self.become(member, Life.DEAD)
        elif is_news and member.life is Life.ALIVE:  # called dead, but it has just spoken with us: we ask it again
            member.incarnation = news.incarnation
            self.suspect(member, now)
        return is_news

    def _believe_alive(self, member: Member, news: News) -> bool:
        if news.incarnation <= member.incarnation and member.life is not Life.UNKNOWN:
            return False
        member.incarnation = news.incarnation
        if member.life is not Life.UNKNOWN:  # the unknown are proven by our own probe
            self.become(member, Life.ALIVE)
        return True
