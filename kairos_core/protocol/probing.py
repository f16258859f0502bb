"""The failure detector: one probe a second, through others when it fails, and suspicion before anybody is dead.

Source: Das, Gupta, Motivala 2002, "SWIM", sections 3.1 and 4.2. Each second one living member is pinged, in shuffled
rounds, so each is looked at once a round by each. What gives no answer is pinged again, and by HELPERS others for us;
when the second is over it is a suspect, and dead if it has not refuted that in time. Two ideas are of Dadgar,
Phillips, Currey 2018, "Lifeguard" (arXiv:1707.00788): a suspect is the first to be told; and a node that was slow
itself suspects nobody for that.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from random import Random

from kairos_core.errors import ProtocolError
from kairos_core.model import Address, PeerId
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.membership import Member, Membership
from kairos_core.protocol.news import Outbox
from kairos_core.protocol.pace import Pace
from kairos_core.protocol.wire import Ack, Datagram, Life, News, Ping, Probe, Reached, Tidings

INTERVAL = 1.0
"""Seconds between probes, and until one has failed. Lowering it finds the dead sooner and costs 2 x 86 bytes each."""

DIRECT = 0.4
"""Seconds until the second try, with the help of others. Raising it asks for less help on slow links."""

HELPERS = 3
"""Peers asked to ping one that does not answer us (SWIM's k). Raising it tells a bad link from a dead peer with
more loss, and costs 4 datagrams for each."""

AT_ONCE = 256
"""Members probed out of turn in one second: the new ones, and the dead when one of them returned. Raising it knows a
large network sooner after joining, in larger bursts."""

JURY = 64
"""Peers, about, that look for themselves when they hear of a suspect. Raising it convicts fewer of the living where
much is lost, and costs that many probes for each suspicion."""

TRY_DEAD = 3.0
"""Seconds between probes of all the dead. Stops a peer that comes and goes from making us probe them without end."""

MISSES = 4
"""Unanswered probes in a row after which a member that never lived is put with the dead."""

INTRODUCE = 2
"""Unanswered probes after which a member that does not live is called by a stream: it may not know our tag yet."""

CALL_RATE, CALLS = 8.0, 16.0
"""Members called by streams each second, and at once. Where many machines start at the same moment, answers are late
and not lost; a handshake with each would make them later still."""

STALL = 0.5
"""Seconds by which a timer may be late; after that we were asleep ourselves, and answers may lie in our socket."""

MAX_RELAYS = 256
"""Probes under way for others. Stops a member from filling our memory with them."""

FANOUT = 3
"""Peers that news is pushed to at once; the rest is carried by probes. Raising it spreads it in fewer hops."""

Send = Callable[[Datagram, Address], None]


class Prober:
    """Asks who lives. `send` sends a message; `call` asks for a stream to a member; `died` and `lived` report."""

    def __init__(self, membership: Membership, random: Random, ours: bytes, send: Send, drops: Counter[str]) -> None:
        self.incarnation = 0
        self.died: Callable[[Member], None] = lambda _: None
        self.lived: Callable[[Member], None] = lambda _: None
        self.call: Callable[[Member, float], None] = lambda _, __: None
        self.digest: Callable[[], bytes] = lambda: bytes(8)
        self._table, self._random, self._ours, self._send = membership, random, ours, send
        self._drops, self._outbox = drops, Outbox()
        self._round: list[Member] = []
        self._next_round = 0.0
        self._next_dead = 0.0
        self._tried_dead = -1e9
        self._burst_ends, self._burst = 0.0, 0
        self._agenda: list[tuple[float, int, Member]] = []
        self._order = count()
        self._relays: dict[int, tuple[Member, int, Address, float]] = {}
        self._calls = Pace(CALL_RATE, CALLS)

    # -- what comes in ------------------------------------------------------------------------------------------

    def begin(self, member: Member, now: float) -> None:
        """Probe a member that we have just learned of."""
        member.next_probe = now
        self._schedule(member)

    def saw(self, member: Member, address: Address | None, now: float, incarnation: int | None = None) -> None:
        """Take proof that a member lives; `address` is where from, None when others told."""
        was_alive, was_dead = member.alive, member.life is Life.DEAD
        if self._table.saw(member, now, incarnation):
            self._tell(member.news, now)
        # The rounds look at it from here on, once we know its incarnation: without it our suspicion says nothing.
        member.probe, member.next_probe = None, float("inf") if member.incarnation else now
        self._schedule(member)
        if address is not None:
            member.prefer(address)
        if not was_alive:
            self.lived(member)
        if was_dead:
            self._try_the_dead(now)

    def receive_ping(self, member: Member, ping: Ping, source: Address, now: float) -> None:
        """Answer a ping. It proves nothing by itself (it may be a replay), but makes us ask."""
        self.receive_news(ping.news, now)
        self._compare(ping, now)
        self._send(Ack(ping.nonce, self.incarnation, self.digest(), self._outbox.to_carry(_told(member))), source)
        if member.life is not Life.ALIVE:
            member.learn([source])
            if member.probe is None:
                self.begin(member, now)

    def receive_ack(self, member: Member, ack: Ack, source: Address, now: float) -> None:
        """Take an answer. Raises ProtocolError (replayed) for one to no question of ours."""
        relay = self._relays.pop(ack.nonce, None)
        if relay is not None and relay[0] is member:
            self._send(Reached(relay[1], ack.incarnation, member.tag), relay[2])
        elif member.probe is None or member.probe[0] != ack.nonce:
            raise ProtocolError(Drop.REPLAYED, "ack")
        self.saw(member, source, now, ack.incarnation)
        self.receive_news(ack.news, now)

    def receive_probe(self, asking: Probe, source: Address, now: float) -> None:
        """Ping a member for another."""
        member = self._table.by_tag(asking.tag)
        if member is None or member.address is None or len(self._relays) >= MAX_RELAYS:
            return
        nonce = self._random.getrandbits(32)
        self._relays[nonce] = (member, asking.nonce, source, now + INTERVAL)
        self._ping(member, nonce, member.address)

    def receive_reached(self, reached: Reached, now: float) -> None:
        """Take an answer that another got for us. Raises ProtocolError (replayed)."""
        member = self._table.by_tag(reached.tag)
        if member is None or member.probe is None or member.probe[0] != reached.nonce:
            raise ProtocolError(Drop.REPLAYED, "reached")
        self.saw(member, None, now, reached.incarnation)

    def receive_news(self, items: tuple[News, ...], now: float) -> None:
        """Take what others say of lives, ours too."""
        for news in items:
            member = self._table.by_tag(news.tag)
            if news.tag == self._ours:
                self._refute(news, now)
            elif member is not None:
                self._hear(member, news, now)

    def _refute(self, news: News, now: float) -> None:
        if news.life is not Life.ALIVE and self.incarnation <= news.incarnation < (1 << 32) - 1:
            self.incarnation = news.incarnation + 1
            self._tell(News(Life.ALIVE, self.incarnation, self._ours), now)

    def _hear(self, member: Member, news: News, now: float) -> None:
        before = member.life
        try:
            if not self._table.believe(member, news, now):
                self._doubt(member, news, now)
                return
        except ProtocolError as error:
            self._drops[error.drop] += 1
            return
        if member.life is news.life:
            self._tell(news, now)
        if member.life is Life.SUSPECT and before is Life.ALIVE and self._random.random() * self._table.size < JURY:
            leisure = 0.0 if news.life is Life.DEAD else self._table.suspicion - INTERVAL
            member.next_probe = now + leisure * self._random.random()
        if member.life is Life.DEAD and before is not Life.DEAD:
            self._lost(member, now)
        if member.alive and before is Life.DEAD:
            member.next_probe = float("inf")
            self.lived(member)
            self._try_the_dead(now)
        self._schedule(member)

    def _doubt(self, member: Member, news: News, now: float) -> None:
        """Look for ourselves when others call dead or suspect a member of which we know a greater incarnation.

        It refuted them, or was refuting when it went: whoever heard of that refuses their news, and would notice by
        its own round only, after as many seconds as there are members.
        """
        is_outdated = news.life is not Life.ALIVE and news.incarnation < member.incarnation
        is_due = member.probe is None and member.next_probe == float("inf") and now - member.heard > INTERVAL
        if is_outdated and is_due and member.life is Life.ALIVE:
            leisure = self._table.suspicion if self._table.size > JURY else 0.0  # hundreds must not ask it at once
            member.next_probe = now + leisure * self._random.random()
            self._schedule(member)

    def _compare(self, ping: Ping, now: float) -> None:
        """Look for ourselves at a member that lives for us and not for the sender, or the other way round.

        Most differences are news on its way; so we wait for it, and what comes of it ends the waiting.
        """
        member = self._table.odd_one(ping.nonce, ping.census)
        if member is not None and member.probe is None and member.next_probe == float("inf"):
            member.next_probe = now + self._table.suspicion * (1.0 + self._random.random())
            self._schedule(member)

    def _try_the_dead(self, now: float) -> None:
        """Probe all the dead, since one has returned: what lay between us may have lain between us and others."""
        if now < self._tried_dead + TRY_DEAD:
            return
        self._tried_dead = now
        for member in list(self._table.dead.values()):
            member.next_probe = min(member.next_probe, now)
            self._schedule(member)

    # -- time ---------------------------------------------------------------------------------------------------

    def next_timer(self) -> float:
        """Return when `handle_timer` has something to do (monotonic seconds)."""
        while self._agenda and self._agenda[0][0] != self._agenda[0][2].due:
            heapq.heappop(self._agenda)  # its time was changed since
        agenda = self._agenda[0][0] if self._agenda else float("inf")
        rounds = self._next_round if self._table.size > 1 else float("inf")
        dead = self._next_dead if self._table.dead else float("inf")
        return min(agenda, rounds, dead, self._outbox.due)

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        while self._agenda and self._agenda[0][0] <= now:
            due, _, member = heapq.heappop(self._agenda)
            if due == member.due and self._table.members.get(member.peer) is member:
                self._look_at(member, now)
        if now >= self._next_round and self._table.size > 1:
            self._next_round = now + INTERVAL
            self._relays = {nonce: relay for nonce, relay in self._relays.items() if relay[3] > now}
            living = self._next_living(now)
            if living is not None:
                self._start(living, now)
        if now >= self._next_dead and self._table.dead:
            self._probe_dead(now)
        for items in self._outbox.to_push(now):
            for member in self.some_living(FANOUT):
                if member.address:
                    self._send(Tidings(items), member.address)

    def some_living(self, wanted: int, without: tuple[PeerId | None, ...] = ()) -> Iterator[Member]:
        """Yield up to that many living members, drawn at random."""
        places = range(self._table.size - 1)
        drawn = self._random.sample(places, min(len(places), wanted + len(without)))
        found = (member for place in drawn if (member := self._table.living(place)).peer not in without)
        return (member for member, _ in zip(found, range(wanted), strict=False))

    def _next_living(self, now: float) -> Member | None:
        """Take turns in a shuffled order, so each is probed once a round and the time to notice is bounded."""
        if not self._round:
            self._round = self._table.alive()
            self._random.shuffle(self._round)
        while self._round:
            member = self._round.pop()
            if member.alive and member.probe is None and now - member.heard > INTERVAL / 2:
                return member
        return None

    def _probe_dead(self, now: float) -> None:
        """Probe one of the dead, rarely: all the living together about two each second, however many they are."""
        self._next_dead = now + INTERVAL * min(30.0, max(1.0, self._table.size / 2))
        member = self._random.choice(list(self._table.dead.values()))
        if member.probe is None:
            self._start(member, now)

    def _look_at(self, member: Member, now: float) -> None:
        """Do what is due for one member, and note when to look again."""
        late = now - member.due
        if late > STALL and (member.probe or member.life is Life.SUSPECT):
            member.suspected = max(member.suspected, now - self._table.suspicion + INTERVAL)
            if member.probe:
                # Of those not known to live there may be hundreds: whoever is short of time does not ask again at once.
                patience = DIRECT if member.alive else INTERVAL * (1.0 + self._random.random())
                member.probe = (member.probe[0], now + patience, member.probe[2])
        if member.probe and member.probe[1] <= now:
            self._unanswered(member, now)
        if member.life is Life.SUSPECT and member.suspected + self._table.suspicion <= now:
            self._table.become(member, Life.DEAD)
            self._tell(member.news, now)
            self._lost(member, now)
        if member.probe is None and member.next_probe <= now:
            if self._has_room(now):
                self._start(member, now)
            else:
                member.next_probe = self._burst_ends
        self._schedule(member)

    def _has_room(self, now: float) -> bool:
        if now >= self._burst_ends:
            self._burst_ends, self._burst = now + INTERVAL, 0
        self._burst += 1
        return self._burst <= AT_ONCE

    def _start(self, member: Member, now: float) -> None:
        if member.address is None:
            member.next_probe = float("inf")
            return
        nonce = self._random.getrandbits(32)
        is_last = member.life is Life.DEAD  # whoever was given up is asked once at a time
        member.probe = (nonce, now + (INTERVAL if is_last else DIRECT), is_last)
        member.next_probe = float("inf")
        self._ping(member, nonce, member.address)
        self._schedule(member)

    def _unanswered(self, member: Member, now: float) -> None:
        """Go on to the next step of a probe: a second try with help, or the end."""
        assert member.probe is not None
        nonce, _, is_last = member.probe
        # Another address may lead to it: what did not answer goes to the end.
        member.candidates.append(member.candidates.pop(0))
        if not is_last:
            member.probe = (nonce, now + INTERVAL - DIRECT, True)
            if member.alive:
                self._ping(member, nonce, member.candidates[0])
                self._ask_for_help(member, nonce)
            elif self._has_room(now):
                self._ping(member, nonce, member.candidates[0])
            return
        member.probe = None
        member.misses += 1
        if member.alive:
            if member.life is Life.ALIVE:
                self._table.suspect(member, now)
                self._tell(member.news, now)
            member.next_probe = now
        elif member.life is Life.UNKNOWN:
            member.next_probe = now + (member.misses - 1) * INTERVAL
            if member.misses >= MISSES:
                member.next_probe = float("inf")
                self._table.become(member, Life.DEAD)
        if member.misses == INTRODUCE and not member.alive:
            if self._calls.has(None, 1.0, now):
                self._calls.spend(None, 1.0, now)
                self.call(member, now)
            else:
                member.misses -= 1  # its turn will come

    def _ask_for_help(self, member: Member, nonce: int) -> None:
        for helper in self.some_living(HELPERS, without=(member.peer,)):
            if helper.address is not None:
                self._send(Probe(nonce, member.tag), helper.address)

    def _lost(self, member: Member, now: float) -> None:
        member.next_probe, member.probe, member.misses = float("inf"), None, 0
        self._next_dead = max(self._next_dead, now + INTERVAL)
        self.died(member)

    def _schedule(self, member: Member) -> None:
        suspicion = member.suspected + self._table.suspicion if member.life is Life.SUSPECT else float("inf")
        due = min(member.probe[1] if member.probe else member.next_probe, suspicion)
        if due != member.due and due < float("inf"):
            heapq.heappush(self._agenda, (due, next(self._order), member))
        member.due = due

    def _ping(self, member: Member, nonce: int, address: Address) -> None:
        carried = self._outbox.to_carry(_told(member))
        self._send(Ping(nonce, self.incarnation, self._table.census(nonce), carried), address)

    def _tell(self, news: News, now: float) -> None:
        self._outbox.add(news, self._table.size, now)


def _told(member: Member) -> News | None:
    """Return what a member must hear of itself before it is too late."""
    return member.news if member.life in (Life.SUSPECT, Life.DEAD) else None
