"""A stream session between two simulated nodes, message by message: greeting, offer, entries and wants, the rest.

Each step comes after the latency of the link, and only while both processes live and both ways are open; else the
session ends where it is, as a broken connection does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kairos_core.protocol import reconciliation
from kairos_core.protocol.wire import Entries, Message, Want

if TYPE_CHECKING:
    from kairos_core.testing.simulator.node import SimulatedNode
    from kairos_core.testing.simulator.world import World


class Session:
    """One session, from the dial to its end."""

    def __init__(self, world: World, caller: SimulatedNode, listener: SimulatedNode) -> None:
        self._world, self._caller, self._listener = world, caller, listener
        self._lives = (caller.lives, listener.lives)

    def begin(self) -> None:
        """Dial: TCP and TLS take two round trips."""
        self._after(2.0, self._greet)

    def _after(self, round_trips: float, step: Callable[[], None]) -> None:
        one, other = self._caller.address, self._listener.address
        delay = round_trips * self._world.network.round_trip(one, other)
        self._world.at(self._world.now + delay, lambda: self._go_on(step))

    def _go_on(self, step: Callable[[], None]) -> None:
        caller, listener = self._caller, self._listener
        lives = caller.is_up and listener.is_up and (caller.lives, listener.lives) == self._lives
        if lives and self._world.network.connects(caller.address, listener.address):
            step()
        elif caller.lives == self._lives[0]:
            caller.hung_up(listener.address)

    def _greet(self) -> None:
        for one, other in ((self._caller, self._listener), (self._listener, self._caller)):
            one.greeted(other.peer, other.address, other.clock.own_ms())
        offer = reconciliation.offer(self._caller.ledger)
        self._after(0.5, lambda: self._answer(offer))

    def _answer(self, offer: Message) -> None:
        said = list(reconciliation.answer(self._listener.ledger, offer))
        self._after(0.5, lambda: self._send_wanted(said))

    def _send_wanted(self, said: list[Message]) -> None:
        _take(self._caller, said, self._listener)
        wanted = [
            reply
            for want in said
            if isinstance(want, Want)
            for reply in reconciliation.answer(self._caller.ledger, want)
        ]
        self._caller.gossip.synced(self._listener.peer, self._world.now)
        self._after(0.5, lambda: self._end(wanted))

    def _end(self, wanted: list[Message]) -> None:
        _take(self._listener, wanted, self._caller)
        self._listener.gossip.synced(self._caller.peer, self._world.now)
        self._caller.hung_up(self._listener.address)


def _take(node: SimulatedNode, messages: Iterable[Message], sender: SimulatedNode) -> None:
    for message in messages:
        if isinstance(message, Entries):
            node.take(message.entries, sender.peer)
