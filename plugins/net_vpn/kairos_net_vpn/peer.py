"""A peer as the tunnel sees it: its addresses, its three sessions, its timers. Decides nothing by itself.

A session is `next` while only we know that it stands (we answered a handshake), `current` once the peer has
used it, `previous` while datagrams sealed before the change may still arrive.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeAlias

from kairos_net_vpn import spec
from kairos_net_vpn.cookies import CookieJar
from kairos_net_vpn.datagrams import WORD
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.loss import Members
from kairos_net_vpn.noise import Initiated, Remote
from kairos_net_vpn.parts import Buffers
from kairos_net_vpn.path import CHECK, Path, Via
from kairos_net_vpn.prefixes import Prefix, Prefixes
from kairos_net_vpn.session import Session
from kairos_net_vpn.spec import Timing

Endpoint: TypeAlias = tuple[Any, ...]
"""A socket address of the underlay, as the socket takes and gives it; compared, never looked into. Or a Via."""

NEVER = float("inf")
MAX_CANDIDATES = 8
"""Endpoints tried for one peer. Bounds what a peer's ledger entry can make us send to third parties."""


@dataclass(slots=True)
class Pending:
    """An initiation of ours that waits for its response."""

    peer: Peer
    index: int
    initiated: Initiated


class Peer:
    """The state of one peer. Times are monotonic seconds; NEVER means that a timer does not run."""

    __slots__ = (
        "addresses",
        "admitted",
        "attempts",
        "buffers",
        "candidates",
        "chacha",
        "current",
        "datagram",
        "drops",
        "endpoint",
        "forget_at",
        "greatest_timestamp",
        "is_eager",
        "jar",
        "knock_at",
        "last_handshake",
        "last_knock_seen",
        "members",
        "mtu",
        "next",
        "owed_at",
        "path",
        "pending",
        "persistent",
        "persistent_at",
        "previous",
        "queued",
        "received",
        "records",
        "refused",
        "remote",
        "routes",
        "sent",
        "sources",
        "trying_since",
        "unheard_at",
        "wake",
        "watches_debt",
        "watches_silence",
    )

    def __init__(self, remote: Remote, mtu: int) -> None:
        self.remote = remote
        self.jar = CookieJar(remote.public)
        self.mtu = mtu
        self.addresses: frozenset[bytes] = frozenset()
        self.routes: tuple[Prefix, ...] = ()  # prefixes that packets are sent to it for
        self.sources: Prefixes[bool] | None = None  # prefixes behind it; None: none
        self.admitted: dict[tuple[bytes, ...], int] = {}  # what may come from those; see admission.py
        self.candidates: tuple[Endpoint, ...] = ()
        self.endpoint: Endpoint | None = None  # where its last authentic datagram came from
        self.persistent = 0.0  # seconds between two such keepalives; 0: none
        self.is_eager = False  # it is said to be alive: hold a session without waiting for a packet
        # records
        self.records = False  # it is a Kairos node that opens them
        self.chacha = False  # seal them with ChaCha20-Poly1305
        self.datagram = (mtu + spec.TRANSPORT_OVERHEAD) // WORD * WORD  # bytes in their datagrams: what the path takes
        self.members = Members()
        self.path = Path()
        self.drops: Counter[VpnDrop] = Counter()  # the tunnel's
        self.buffers = Buffers()  # the tunnel's
        # sessions
        self.current: Session | None = None
        self.previous: Session | None = None
        self.next: Session | None = None
        self.pending: Pending | None = None
        self.queued: bytes | None = None  # the one packet that waits for the handshake
        # handshake
        self.attempts = 0  # initiations without an answer
        self.trying_since = NEVER
        self.greatest_timestamp = b""
        self.last_knock_seen = -NEVER
        self.last_handshake: float | None = None
        # timers
        self.knock_at = NEVER  # initiate
        self.forget_at = NEVER  # throw the keys away
        self.persistent_at = NEVER  # it is to hear from us, whatever else there was
        self.wake = NEVER  # not after any of these, nor after what is due by the next two
        # silence: noted with each packet, and looked at when it is time, which spares setting timers each time
        self.owed_at: float | None = None  # it sent data then, and has heard nothing since
        self.unheard_at: float | None = None  # we sent data then, and have heard nothing since
        self.watches_debt = self.watches_silence = False  # `wake` is soon enough for these, whenever they begin
        # bytes on the wire
        self.sent = 0
        self.received = 0
        self.refused = 0  # datagrams and packets under its sessions that were not taken

    def __repr__(self) -> str:
        return f"Peer({self.remote.public.hex()[:8]}, {len(self.addresses)} addresses)"

    def owns(self, source: bytes) -> bool:
        """Say whether this peer may send from this packed address (4 or 16 bytes): its own, or one behind it."""
        return source in self.addresses or (self.sources is not None and self.sources.find(source) is True)

    @property
    def relay(self) -> bytes | None:
        """The public key of the peer through which this one is reached; None without one."""
        return self.endpoint.relay if isinstance(self.endpoint, Via) else None

    def sessions(self) -> tuple[Session, ...]:
        return tuple(s for s in (self.current, self.previous, self.next) if s is not None)

    def destinations(self) -> tuple[Endpoint, ...]:
        """Return where to send an initiation: to the best place, from the second attempt on everywhere."""
        known = dict.fromkeys((self.endpoint, *self.candidates) if self.endpoint else self.candidates)
        return tuple(known)[: 1 if self.attempts == 0 else MAX_CANDIDATES]

    def has_sent(self, size: int, *, data_at: float | None = None) -> None:
        """Note a datagram to the peer; for data, when."""
        self.sent += size
        self.owed_at = None
        if data_at is not None and self.unheard_at is None:
            self.unheard_at = data_at
            self.wake = self.wake if self.watches_silence else min(self.wake, data_at)

    def has_received(self, size: int, *, data_at: float | None = None) -> None:
        """Note an authentic datagram; for data, when."""
        self.received += size
        self.unheard_at = None
        if data_at is not None and self.owed_at is None:
            self.owed_at = data_at
            self.wake = self.wake if self.watches_debt else min(self.wake, data_at)

    def keep_alive(self, interval: float, now: float) -> None:
        """Let the peer hear from us at least this often (0: no longer).

        Other datagrams do not put it off, as they do in WireGuard: that would cost each of them something, and this
        costs 32 bytes in an interval.
        """
        if interval != self.persistent:
            self.persistent = interval
            self.persistent_at = now + interval if interval else NEVER
            self.wake = min(self.wake, self.persistent_at)

    @property
    def check_at(self) -> float:
        """When to ask whether the path works: a while after data that got no answer, and again while it is in doubt."""
        if self.path.check_at is not None:
            return self.path.check_at
        return self.unheard_at + CHECK if self.records and self.unheard_at is not None else NEVER

    def keepalive_at(self, timing: Timing) -> float:
        """When to say that we are there: the peer sent data, and we were silent."""
        return self.owed_at + timing.keepalive if self.owed_at is not None else NEVER

    def silence_at(self, timing: Timing) -> float:
        """When to begin a handshake: we sent data, and the peer was silent."""
        return self.unheard_at + timing.silence if self.unheard_at is not None else NEVER

    def set_wake(self, timing: Timing) -> None:
        """Choose when to look at the peer again."""
        self.watches_debt, self.watches_silence = self.owed_at is not None, self.unheard_at is not None
        silences = self.keepalive_at(timing), self.silence_at(timing), self.check_at
        others = self.knock_at, self.forget_at, self.persistent_at, self.path.probe_at, self.path.mtu.due
        self.wake = min(*silences, *others)
