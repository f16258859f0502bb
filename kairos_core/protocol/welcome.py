"""What newcomers are told: the ids of all that comes to us in the first second after they came to us.

A newcomer has seen our ledger, and hears of what is new by chance until enough nodes know it (`spreading`). Of two
that come at the same moment to the same node, neither would hear of the other. So whoever a node is met by is told,
in a few datagrams, of all that it learns a moment later.
"""

from __future__ import annotations

from collections.abc import Iterator

from kairos_core.model import Address, PeerId
from kairos_core.protocol.membership import Member

WELCOME = 1.0
"""Seconds for which a newcomer is told. Raising it covers slower joins, at 10 datagrams a second while news comes."""

GATHER = 0.1
"""Seconds that ids are gathered before they go out. Raising it makes fewer datagrams, later."""

MAX_WELCOMED = 256
"""Newcomers told at a time. Stops invented peers from making us send to all of them; the rest waits for a digest."""

MAX_TOLD = 1024
"""Ids that one newcomer is told at a time. What is more it finds by comparing digests."""


class Welcome:
    """The newcomers of the last second, and what each has to be told."""

    def __init__(self) -> None:
        self._newcomers: dict[PeerId, tuple[Member, float]] = {}
        self._ids: dict[PeerId, list[bytes]] = {}
        self.due = float("inf")

    def add(self, member: Member, now: float) -> None:
        """Tell this peer from now on, for a while."""
        self._newcomers = {peer: newcomer for peer, newcomer in self._newcomers.items() if newcomer[1] > now}
        if len(self._newcomers) < MAX_WELCOMED:
            self._newcomers[member.peer] = (member, now + WELCOME)

    def note(self, short_id: bytes, without: set[PeerId | None], now: float) -> None:
        """Tell the newcomers of an entry."""
        for peer, (_, until) in self._newcomers.items():
            ids = self._ids.setdefault(peer, [])
            if until > now and peer not in without and len(ids) < MAX_TOLD:
                ids.append(short_id)
                self.due = min(self.due, now + GATHER)

    def to_send(self, now: float) -> Iterator[tuple[Address, list[bytes]]]:
        """Yield what is to be told and to whom, if it is time."""
        if now < self.due:
            return
        told, self._ids, self.due = self._ids, {}, float("inf")
        for peer, ids in told.items():
            newcomer = self._newcomers.get(peer)
            if ids and newcomer is not None and newcomer[0].address is not None:
                yield newcomer[0].address, ids
