"""Who is not listened to for a while, since it brings entries that their authors have not signed.

Honest members check what they pass on, so none ever brings a forged entry, and each costs us a signature to verify.
Over a stream the culprit is a peer, whom TLS has authenticated. A datagram proves only that its sender has the
network's key, so there it is an address and never the peer that the datagram names: else one member could have all
others shunned. It is entries alone that are not taken; pings are answered, so nobody is called dead for this.
"""

from __future__ import annotations

from collections.abc import Hashable

from kairos_core.protocol.pace import Pace

FORGERY_RATE, FORGERIES = 0.1, 8.0
"""Forged entries that are forgiven each second, and at once. Raising it lets a forger cost more: 140 us for each."""

SHUNNED_FOR = 60.0
"""Seconds that a forger is not listened to. Raising it makes it cost less, and lasts longer where a fault of ours was
taken for a forgery."""

MAX_SHUNNED = 1024
"""Culprits remembered. Stops one that changes its address from filling our memory; it costs FORGERIES for each."""


class Shunned:
    """The forgers of late."""

    def __init__(self) -> None:
        self._forgiven = Pace(FORGERY_RATE, FORGERIES)
        self._until: dict[Hashable, float] = {}

    def blame(self, culprit: Hashable, now: float) -> None:
        """Note that a peer or an address has brought a forged entry."""
        self._forgiven.spend(culprit, 1.0, now)
        if not self._forgiven.has(culprit, 1.0, now):
            self._until.pop(culprit, None)
            self._until[culprit] = now + SHUNNED_FOR
            if len(self._until) > MAX_SHUNNED:
                del self._until[next(iter(self._until))]

    def has(self, culprit: Hashable, now: float) -> bool:
        """Say whether a peer or an address is not listened to now."""
        return self._until.get(culprit, now) > now
