"""What is known of the way to one peer. Decides nothing; see paths.py."""

from __future__ import annotations

from typing import Any, NamedTuple

from kairos_net_vpn.pathmtu import NEVER, Search
from kairos_net_vpn.rations import Bucket

PING_RATE = 200.0
"""PINGs of one peer that are answered in a second: four searches for a path MTU at once."""
CHECK = 1.5
"""Seconds without a sound from a peer that was sent data, until its path is in doubt. Lowering it finds out earlier,
and costs PINGs where one side only listens."""
MAX_ASKED = 64
"""PINGs of ours that may be answered; the oldest is forgotten. Bounds the memory of a peer."""


class Via(NamedTuple):
    """A way through another peer, in the place of an endpoint: both named by their public keys."""

    relay: bytes
    target: bytes


class Asked(NamedTuple):
    """A PING of ours: where to, how large a path MTU it tries (0: none), and when."""

    endpoint: tuple[Any, ...]
    size: int
    at: float


class Path:
    """The state of one peer's path. Times are monotonic seconds."""

    __slots__ = (
        "answers",
        "asked",
        "check_at",
        "heard_at",
        "mtu",
        "probe_at",
        "proven_at",
        "rounds",
        "rtt",
        "seen",
        "used_at",
    )

    def __init__(self) -> None:
        self.asked: dict[bytes, Asked] = {}
        self.answers = Bucket(PING_RATE)
        self.seen: tuple[Any, ...] | None = None  # where the peer's last PING came from, without a relay
        self.rounds = 0  # of PINGs without an answer, since we heard nothing
        self.rtt: float | None = None  # of the endpoint in use
        self.heard_at = -NEVER  # the peer, by the endpoint in use
        self.proven_at = -NEVER  # that the endpoint in use works in both directions
        self.used_at = -NEVER  # for data
        self.mtu = Search()
        # timers
        self.check_at: float | None = None  # ask whether it works, again; None: it is not in doubt
        self.probe_at = NEVER  # look for a better way

    def rest(self) -> None:
        """Stop all timers: there is no session to ask in."""
        self.check_at = self.probe_at = NEVER
        self.mtu.rest()
        self.rounds = 0

    def note_asked(self, token: bytes, asked: Asked) -> None:
        if len(self.asked) >= MAX_ASKED:
            del self.asked[next(iter(self.asked))]
        self.asked[token] = asked
