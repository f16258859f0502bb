"""Who is a member and who answers: a table of peers and a probe of one of them each second.

A peer is alive while it answers probes or has just spoken on an authenticated stream. A missed probe makes it
`doubted`: it is then probed every second, and after MISSES in a row it is dead. The dead are probed too, rarely,
so they are noticed when they return. Liveness stays beside the ledger and never enters a merge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from kairos_core.model import Address, PeerId

PROBE_INTERVAL = 1.0
"""Seconds between probes of healthy peers. Lowering it finds the dead sooner and costs 2 x 82 bytes a probe."""

PROBE_TIMEOUT = 0.8
"""Seconds to wait for an answer. Raising it forgives slow links and finds the dead later."""

MISSES = 4
"""Unanswered probes in a row after which a peer is dead. Raising it forgives loss: at 1 % loss both ways, four in
a row happen by chance once in six million probes."""

DEAD_INTERVAL = 10.0
"""Seconds between probes of a dead peer."""

MAX_CANDIDATES = 8
"""Addresses tried for one peer. Stops a member from making us send to addresses of its choosing."""


@dataclass
class Member:
    """One peer: where it may listen, and how it answered. Times are monotonic seconds."""

    peer: PeerId
    tag: bytes
    candidates: list[Address] = field(default_factory=list)
    alive: bool = False
    misses: int = 0
    next_probe: float = 0.0
    probe: tuple[int, float] | None = None  # nonce and deadline of the one under way
    heard: float = -1e9

    @property
    def address(self) -> Address | None:
        """The address that answered last, else the first to try."""
        return self.candidates[0] if self.candidates else None

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
    """The table of peers, without this node."""

    def __init__(self, shuffle: Callable[[list[Member]], None]) -> None:
        self.members: dict[PeerId, Member] = {}
        self._by_tag: dict[bytes, Member] = {}
        self._shuffle = shuffle
        self._round: list[Member] = []
        self._next_round = 0.0

    def add(self, peer: PeerId, tag: bytes, addresses: Sequence[Address], now: float) -> Member:
        """Learn of a peer, or more addresses of a known one; a new one is probed at once."""
        member = self.members.get(peer)
        if member is None:
            member = self.members[peer] = self._by_tag[tag] = Member(peer, tag, next_probe=now)
        member.learn(addresses)
        return member

    def forget(self, peer: PeerId) -> None:
        """Drop a peer whose ledger entry is gone."""
        member = self.members.pop(peer, None)
        if member is not None:
            del self._by_tag[member.tag]

    def by_tag(self, tag: bytes) -> Member | None:
        return self._by_tag.get(tag)

    def alive(self) -> list[Member]:
        """Return the peers that answer."""
        return [member for member in self.members.values() if member.alive]

    def heard_from(self, member: Member, address: Address | None, now: float) -> bool:
        """Note proof that a peer lives (a fresh ACK, an authenticated stream). Says whether that is news."""
        is_news = not member.alive
        member.alive, member.misses, member.probe, member.heard = True, 0, None, now
        member.next_probe = float("inf")  # the round-robin probes it from here on
        if address is not None:
            member.prefer(address)
        return is_news

    def to_probe(self, now: float) -> list[Member]:
        """Return the peers to probe now: those doubted, dead or new by their own time, and one of the healthy."""
        due = [m for m in self.members.values() if m.probe is None and m.next_probe <= now and m.candidates]
        if now >= self._next_round:
            self._next_round = now + PROBE_INTERVAL
            healthy = self._next_healthy(now)
            if healthy is not None and healthy not in due:
                due.append(healthy)
        return due

    def _next_healthy(self, now: float) -> Member | None:
        """Take turns in a shuffled order, so each is probed once per round and the time to notice is bounded."""
        if not self._round:
            self._round = self.alive()
            self._shuffle(self._round)
        while self._round:
            member = self._round.pop()
            if member.alive and member.probe is None and now - member.heard > PROBE_INTERVAL / 2:
                return member
        return None

    def expire_probes(self, now: float) -> list[Member]:
        """Count the probes that went unanswered; return the peers that this makes dead."""
        newly_dead = []
        for member in self.members.values():
            if member.probe is None or member.probe[1] > now:
                continue
            member.probe = None
            member.misses += 1
            # Another address may lead to it: what did not answer goes to the end.
            member.candidates.append(member.candidates.pop(0))
            if member.alive and member.misses >= MISSES:
                member.alive = False
                newly_dead.append(member)
            waited_long = not member.alive and member.misses >= MISSES
            member.next_probe = now + (DEAD_INTERVAL if waited_long else PROBE_INTERVAL - PROBE_TIMEOUT)
        return newly_dead

    def next_timer(self) -> float:
        """Return when `to_probe` or `expire_probes` has something to do (monotonic seconds)."""
        # Without an address there is nothing to do for a member, and its time would be due forever.
        members = [member for member in self.members.values() if member.candidates]
        times = [member.probe[1] if member.probe else member.next_probe for member in members]
        return min([self._next_round, *times]) if members else float("inf")
