"""A stream session between two simulated nodes, message by message: greeting, offer, entries and wants, the rest.

Each step comes after the latency of the link, and only while both processes live and both ways are open; else the
session ends where it is, as a broken connection does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kairos_core.protocol import reconciliation
from kairos_core.protocol.wire import Done, Entries, Message

if TYPE_CHECKING:
    from kairos_core.runtime.pump import Errand
    from kairos_core.testing.simulator.node import SimulatedNode
    from kairos_core.testing.simulator.world import World


class Session:
    """One session, from the dial to its end."""

    def __init__(self, world: World, caller: SimulatedNode, listener: SimulatedNode, errand: Errand | None) -> None:
        """`errand` is what the session is for; None where the peer was only discovered."""
        self._world, self._caller, self._listener, self._errand = world, caller, listener, errand
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
        ledger, errand = self._caller.ledger, self._errand
        if errand is not None and (errand.give or errand.want):
            self._say(list(reconciliation.settle(ledger, errand.give, errand.want)), self._listener, self._caller)
        elif errand is not None or self._caller.offers_all:
            self._say([reconciliation.offer(ledger)], self._listener, self._caller)
        else:  # it was for the greeting alone
            self._caller.hung_up(self._listener.address)

    def _say(self, said: list[Message], hearer: SimulatedNode, speaker: SimulatedNode) -> None:
        self._after(0.5, lambda: self._hear(said, hearer, speaker))

    def _hear(self, said: list[Message], hearer: SimulatedNode, speaker: SimulatedNode) -> None:
        answers: list[Message] = []
        for message in said:
            if isinstance(message, Entries):
                hearer.take(message.entries, speaker.peer)
            answers += reconciliation.answer(hearer.ledger, message)
        is_over = any(isinstance(message, Done) for message in (*said, *answers))
        if is_over:
            hearer.synced(speaker.peer)
            if hearer is self._caller:
                hearer.hung_up(self._listener.address)
        if answers:
            self._say(answers, speaker, hearer)
        elif not is_over or hearer is not self._caller:
            self._caller.hung_up(self._listener.address)
