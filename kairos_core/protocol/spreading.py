"""How new entries spread: pushed to a few, announced to a few more, asked for by who lacks them.

Everybody who receives something new passes it on, to random peers and to its neighbours in the ring of the living
(`Membership.neighbours`). The random ones make it fast; the ring makes sure: without loss nobody is left out, which
chance alone would do to one node in twenty. What loss leaves out is mended by the announcement, then by `agreement`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from kairos_core.errors import ProtocolError
from kairos_core.model import Address, PeerId
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.entry import SHORT_ID, Entry
from kairos_core.protocol.ledger import Ledger
from kairos_core.protocol.membership import Member, Membership
from kairos_core.protocol.pace import Pace
from kairos_core.protocol.probing import Prober, Send
from kairos_core.protocol.welcome import Welcome
from kairos_core.protocol.wire import MAX_BODY, MAX_PUSH, Bulk, Have, Pull, in_datagrams
from kairos_core.protocol.wire import Push as PushMessage

FANOUT = 3
"""Peers that a new entry is pushed to at once: our successor, the others at random. Raising it spreads news in fewer
hops and sends it more often."""

LAZY = 2
"""Further peers to which only the id goes: our predecessor, the others at random. Raising it mends loss sooner, at 8
bytes a peer and entry, and 78 for one alone."""

LAZY_DELAY = 0.1
"""Seconds until the ids go out; most peers have the entry by then and need not ask."""

EAGER_BYTES = 512
"""Bytes up to which an entry is pushed unasked. Raising it wastes more on peers that hold the entry already."""

PULL_AGAIN = 1.0
"""Seconds until a missing entry is asked for again."""

FETCH_AGAIN = 5.0
"""The same over a stream, which may have to wait for others."""

ANNOUNCED_RATE, ANNOUNCED_BURST = 512.0, 2048.0
"""Ids of entries from streams that are announced each second, and at once. Who joins a large ledger is given what
all others have; and where two halves of a network meet again, digests tell the rest."""

MAX_ASKED = 8192
"""Entries asked for at a time. Stops a member from filling our memory with announcements of what it does not have."""

ANSWER_RATE, ANSWER_BURST = 65_536.0, 131_072.0
"""Bytes of entries and cells that one peer gets for its datagrams each second, and at once. A short datagram asks
for long ones, so this stops a recorded one, sent again under another's address, from drowning that address; who
lacks more fetches it over a stream."""

_IDS = MAX_BODY // SHORT_ID


class Spreader:
    """Passes entries on. `fetch` asks for a stream that brings entries too large for datagrams."""

    def __init__(self, ledger: Ledger, membership: Membership, prober: Prober, send: Send, drops: Counter[str]) -> None:
        self.fetch: Callable[[Member, Address, tuple[bytes, ...]], None] = lambda _, __, ___: None
        self.newcomers = Welcome()
        self.budget = Pace(ANSWER_RATE, ANSWER_BURST)
        self._announced = Pace(ANNOUNCED_RATE, ANNOUNCED_BURST)
        self._ledger, self._membership, self._prober = ledger, membership, prober
        self._send, self._drops = send, drops
        self._late: deque[tuple[float, Address, bytes]] = deque()
        self._asked: dict[bytes, float] = {}
        self._fetched: dict[bytes, float] = {}  # the same over streams

    def spread(self, entry: Entry, sender: PeerId | None, now: float) -> None:
        """Pass on a new entry that was written here, or came in a datagram."""
        self.newcomers.note(entry.short_id, {sender, entry.author}, now)
        push, announce = self._targets({sender, entry.author})
        if len(entry.raw) > EAGER_BYTES:
            self._announce([entry], (*push, *announce))
            return
        for address in push:
            self._send(PushMessage((entry.raw,)), address)
        self._late.extend((now + LAZY_DELAY, address, entry.short_id) for address in announce)

    def announce(self, entries: list[Entry], sender: PeerId, now: float) -> None:
        """Pass on what came over a stream, as ids only: there may be thousands, and most peers have them."""
        for entry in entries:
            self.newcomers.note(entry.short_id, {sender, entry.author}, now)
        if self._announced.has(None, len(entries), now):
            self._announced.spend(None, len(entries), now)
            push, _ = self._targets({sender})
            self._announce(entries, push)

    def is_asked(self, short_id: bytes, now: float) -> bool:
        """Say whether we have asked for an entry, and not long ago."""
        return self._asked.get(short_id, now) > now

    def ask(self, ids: Iterable[bytes], source: Address, now: float) -> None:
        """Ask a peer for the entries that we lack and have not just asked for."""
        missing = self._missing(ids, now, self._asked, self._fetched)
        self._asked.update(dict.fromkeys(missing, now + PULL_AGAIN))
        for at in range(0, len(missing), _IDS):
            self._send(Pull(missing[at : at + _IDS]), source)

    def receive_bulk(self, member: Member, ids: Iterable[bytes], source: Address, now: float) -> None:
        """Take an announcement of entries that only a stream carries.

        It may be the answer to our asking: that we have asked for them by datagram brings them no nearer.
        """
        missing = self._missing(ids, now, self._fetched)
        if missing:
            self._fetched.update(dict.fromkeys(missing, now + FETCH_AGAIN))
            self.fetch(member, source, missing)

    def receive_pull(self, member: Member, ids: Iterable[bytes], source: Address, now: float) -> None:
        """Answer who lacks entries. Raises ProtocolError (greedy)."""
        self.give(member, [entry for short_id in ids if (entry := self._ledger.find(short_id))], source, now)

    def give(self, member: Member, entries: Iterable[Entry], to: Address, now: float) -> None:
        """Send entries to a peer that lacks them, within its budget. Raises ProtocolError (greedy)."""
        large: list[bytes] = []
        for push in in_datagrams(self._small(entries, large)):
            if not self.budget.has(member.peer, 0.0, now):
                raise ProtocolError(Drop.GREEDY)
            self.budget.spend(member.peer, sum(map(len, push.entries)), now)
            self._send(push, to)
        if large:
            self._send(Bulk(tuple(large)), to)

    def _small(self, entries: Iterable[Entry], large: list[bytes]) -> Iterator[bytes]:
        for entry in entries:
            if len(entry.raw) <= MAX_PUSH:
                yield entry.raw
            else:
                large.append(entry.short_id)

    def handle_timer(self, now: float) -> None:
        """Send the late announcements, and forget what was asked for in vain."""
        ready: dict[Address, list[bytes]] = {}
        while self._late and self._late[0][0] <= now:
            _, address, short_id = self._late.popleft()
            if self._ledger.find(short_id) is not None:
                ready.setdefault(address, []).append(short_id)
        for address, ids in ready.items():
            self._send_ids(Have, ids, address)
        for address, ids in self.newcomers.to_send(now):
            self._send_ids(Have, [i for i in ids if self._ledger.find(i) is not None], address)
        self._asked = {short_id: until for short_id, until in self._asked.items() if until > now}
        self._fetched = {short_id: until for short_id, until in self._fetched.items() if until > now}

    def next_timer(self) -> float:
        """Return when `handle_timer` has something to do (monotonic seconds)."""
        return min(self._late[0][0] if self._late else float("inf"), self.newcomers.due)

    def _missing(self, ids: Iterable[bytes], now: float, *asked: dict[bytes, float]) -> tuple[bytes, ...]:
        """Return those that we lack and that have not just been asked for; as many as there is room for."""
        lacking = (i for i in ids if self._ledger.find(i) is None and all(each.get(i, 0.0) <= now for each in asked))
        return tuple(islice(lacking, MAX_ASKED - len(asked[0])))

    def _announce(self, entries: list[Entry], addresses: Iterable[Address]) -> None:
        small = [entry.short_id for entry in entries if len(entry.raw) <= MAX_PUSH]
        large = [entry.short_id for entry in entries if len(entry.raw) > MAX_PUSH]
        for address in addresses:
            self._send_ids(Have, small, address)
            self._send_ids(Bulk, large, address)

    def _send_ids(self, kind: type[Have | Bulk], ids: list[bytes], address: Address) -> None:
        for at in range(0, len(ids), _IDS):
            self._send(kind(tuple(ids[at : at + _IDS])), address)

    def _targets(self, without: set[PeerId | None]) -> tuple[list[Address], list[Address]]:
        """Return whom to push to and whom to announce to; small networks are covered whole."""
        before, after = self._membership.neighbours()
        picked = {m.peer: m for m in (after, before) if m is not None and m.peer not in without}
        wanted = FANOUT + LAZY - len(picked)
        drawn = self._prober.some_living(wanted, without=(*without, *picked))
        others = [m.address for m in drawn if m.address]
        push, announce = [], []
        if after is not None and after.peer in picked and after.address:
            push.append(after.address)
        if before is not None and before is not after and before.peer in picked and before.address:
            announce.append(before.address)
        rest = FANOUT - len(push)
        push += others[:rest]
        announce += others[rest : rest + LAZY - len(announce)]
        while len(push) < FANOUT and announce:  # too few for both: who can be pushed to is
            push.append(announce.pop())
        return push, announce
