"""How two ledgers that differ come to agree by a few datagrams, and by a stream where those do not do.

A probe that was answered with another digest than ours starts it. We ask for the first cells of the peer's sketch,
then for twice as many until the difference can be read from them (`sketch`); then we give what the peer lacks and
ask for what we lack. One peer at a time: else an empty node would be sent the same ledger by all its peers at once.

Whoever lies costs little: each round asks for a bounded number of cells, and a peer with which no round brings us
anything new is compared with more and more rarely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kairos_core.errors import ProtocolError
from kairos_core.model import Address, PeerId
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.ledger import Ledger
from kairos_core.protocol.membership import Member
from kairos_core.protocol.probing import Send
from kairos_core.protocol.sketch import CELLS, decode_cells
from kairos_core.protocol.spreading import Spreader
from kairos_core.protocol.wire import MAX_CELLS, Cells, Compare

FIRST = 32
"""Cells asked for at first: 512 bytes, enough for ten differences. Raising it costs more where little differs."""

QUIET = 0.4
"""Seconds without a new entry before a difference counts as loss and not as news still on its way."""

PATIENCE = 2.0
"""Seconds after which a difference counts as loss even where new entries never cease."""

ANSWER = 1.0
"""Seconds to wait for cells before asking again, and for a stream to begin."""

TRIES = 2
"""Times that cells are asked for before a stream is taken instead."""

FILLING = 2.0
"""Seconds after the last new entries of a stream for which it counts as going on: we compare with nobody meanwhile,
and tell who compares with us to come later. Else a node that takes seconds to verify a large ledger would be given
it again by each of its peers. Raising it forgives slower machines, and waits longer for a peer that fell silent."""

STREAM = 10.0
"""Seconds until a stream that was to make us agree counts as lost."""

AGAIN, AGAIN_AT_MOST = 2.0, 32.0
"""Seconds until the same peer is compared with again: doubled each time that it brought nothing new, until our
digests are equal. Stops a digest that lies, and one that holds what we refuse, from keeping us busy."""

GIVEN = 16 * 1024
"""Bytes of entries given by datagrams. More goes over a stream, which does not outrun the receiver."""

WANTED = 64
"""Entries asked for by datagrams, likewise."""


@dataclass
class Comparison:
    """One comparison under way: the cells that have come, of the peer's ledger as it was at `digest`."""

    member: Member
    address: Address
    deadline: float
    size: int = FIRST
    digest: bytes = b""
    tries: int = 1
    blocks: dict[int, list[int]] = field(default_factory=dict)

    def missing(self) -> list[tuple[int, int]]:
        """Return the blocks (start, count) of the prefix that have not come yet."""
        starts = [0, *range(FIRST, min(self.size, MAX_CELLS), FIRST), *range(MAX_CELLS, self.size, MAX_CELLS)]
        return [(at, FIRST if at < MAX_CELLS else MAX_CELLS) for at in starts if at not in self.blocks]

    def prefix(self) -> list[int]:
        return [cell for at in sorted(self.blocks) for cell in self.blocks[at]]


class Agreement:
    """Compares our ledger with others'. `stream` asks for one: entries to give and ids to want, or both empty."""

    def __init__(self, ledger: Ledger, spreader: Spreader, ours: bytes, send: Send) -> None:
        self.stream: Callable[[Member, Address, Sequence[bytes], Sequence[bytes]], None] = lambda *_: None
        self._ledger, self._spreader, self._ours, self._send = ledger, spreader, ours, send
        self._current: Comparison | None = None
        self._streaming_until = -1e9
        self._filling_until = -1e9
        self._is_new = True  # we have agreed with nobody yet
        self._differed: float | None = None  # since when, with whomever
        self._last_change = -1e9
        self._fruitless: dict[PeerId, tuple[int, float]] = {}  # how often in a row, and when to try again

    # -- what happens -------------------------------------------------------------------------------------------

    def changed(self, sender: PeerId | None, now: float) -> None:
        """Note that the ledger has changed, by an entry from a peer or of our own (None)."""
        self._last_change = now
        if sender in self._fruitless:
            self._fruitless[sender] = (0, min(self._fruitless[sender][1], now + AGAIN))

    def filled(self, now: float) -> None:
        """Note that a stream has brought many new entries, and may bring more."""
        self._filling_until = now + FILLING

    def synced(self) -> None:
        """Note that a stream has brought our ledger and a peer's to their union, or so the peer says."""
        self._streaming_until = self._filling_until = -1e9
        self._is_new = False

    def forget(self, peer: PeerId) -> None:
        self._fruitless.pop(peer, None)

    def compare(self, member: Member, digest: bytes, address: Address, now: float) -> None:
        """Take the digest of a peer that has just answered us."""
        if digest == self._ledger.digest:
            self._fruitless.pop(member.peer, None)
            self._differed, self._is_new = None, False
            return
        if self._differed is None:
            self._differed = now
        # A newcomer lacks what nobody will send it unasked.
        is_loss = self._is_new or now - self._last_change > QUIET or now - self._differed > PATIENCE
        if is_loss and self._is_free(now) and self._fruitless.get(member.peer, (0, now))[1] <= now:
            self._note_try(member.peer, now)
            self._current = Comparison(member, address, now + ANSWER)
            self._ask(self._current)

    def may_stream(self, now: float) -> bool:
        """Say whether no stream is on its way already, and note that one is now."""
        if now < max(self._streaming_until, self._filling_until):
            return False
        self._streaming_until = now + STREAM
        return True

    # -- messages -----------------------------------------------------------------------------------------------

    def receive_compare(self, member: Member, asked: Compare, source: Address, now: float) -> None:
        """Answer with cells of our sketch. Raises ProtocolError (greedy, malformed)."""
        cells = self._ledger.sketch.encode(asked.start, asked.count)
        if now < self._filling_until:
            self._send(Cells(self._ledger.digest, asked.start, b""), source)
            return
        if not cells:
            raise ProtocolError(Drop.MALFORMED, "cells from beyond the sketch")
        if not self._spreader.budget.has(member.peer, 0.0, now):
            raise ProtocolError(Drop.GREEDY)
        self._spreader.budget.spend(member.peer, len(cells), now)
        self._yield_to(member, now)
        self._send(Cells(self._ledger.digest, asked.start, cells), source)

    def receive_cells(self, member: Member, message: Cells, now: float) -> None:
        """Take cells that we have asked for. Raises ProtocolError (replayed, malformed, bad_sketch)."""
        current = self._current
        if current is None or current.member is not member:
            raise ProtocolError(Drop.REPLAYED, "cells")
        if not message.cells or (current.digest and current.digest != message.digest):
            self._current = None  # the peer's ledger is moving on; so will the next comparison
            return
        wanted = dict(current.missing())
        cells = decode_cells(message.cells)
        if message.start not in wanted:
            return
        if len(cells) != wanted[message.start]:
            raise ProtocolError(Drop.MALFORMED, "cells")
        current.digest = message.digest
        current.blocks[message.start] = cells
        if not current.missing():
            self._decode(current, now)

    def _decode(self, current: Comparison, now: float) -> None:
        try:
            difference = self._ledger.sketch.difference(current.prefix())
        except ProtocolError:
            self._current = None
            raise
        if difference is not None:
            self._current = None
            self._settle(current, difference, now)
        elif current.size >= CELLS:
            self._current = None
            self._stream(current, (), (), now)
        else:
            current.size, current.tries, current.deadline = 2 * current.size, 1, now + ANSWER
            self._ask(current)

    def _settle(self, current: Comparison, difference: set[bytes], now: float) -> None:
        """Give and ask for the difference: by datagrams if it is small."""
        self._is_new = False
        ids = sorted(difference)  # a set of bytes has another order in each process; a seed must replay
        held = {short_id: entry for short_id in ids if (entry := self._ledger.find(short_id))}
        lacking = tuple(short_id for short_id in ids if short_id not in held)
        if len(lacking) <= WANTED and sum(len(entry.raw) for entry in held.values()) <= GIVEN:
            self._spreader.ask(lacking, current.address, now)
            self._spreader.give(current.member, held.values(), current.address, now)
        else:
            self._stream(current, tuple(held), lacking, now)

    def _yield_to(self, member: Member, now: float) -> None:
        """Leave it to a peer that compares with us; of two that began at once, the lesser tag goes on."""
        times, due = self._fruitless.get(member.peer, (0, 0.0))
        self._fruitless[member.peer] = (times, max(due, now + ANSWER))
        if self._current is not None and self._current.member is member and member.tag < self._ours:
            self._current = None

    # -- time ---------------------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Ask again for cells that were lost, then take a stream."""
        current = self._current
        if current is None or now < current.deadline:
            return
        if current.tries < TRIES:
            current.tries, current.deadline = current.tries + 1, now + ANSWER
            self._ask(current)
        else:
            self._current = None
            self._stream(current, (), (), now)

    def next_timer(self) -> float:
        """Return when `handle_timer` has something to do (monotonic seconds)."""
        return self._current.deadline if self._current else float("inf")

    def _is_free(self, now: float) -> bool:
        return self._current is None and now >= max(self._streaming_until, self._filling_until)

    def _note_try(self, peer: PeerId, now: float) -> None:
        times, _ = self._fruitless.get(peer, (0, 0.0))
        self._fruitless[peer] = (times + 1, now + min(AGAIN_AT_MOST, AGAIN * 2.0**times))

    def _ask(self, current: Comparison) -> None:
        for start, count in current.missing():
            self._send(Compare(start, count), current.address)

    def _stream(self, current: Comparison, give: tuple[bytes, ...], want: tuple[bytes, ...], now: float) -> None:
        if self.may_stream(now):
            self.stream(current.member, current.address, give, want)
