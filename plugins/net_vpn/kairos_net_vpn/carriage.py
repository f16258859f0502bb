"""The underlay with relays: what goes to a `Via` is wrapped and sent to the relay."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence

from kairos_net_vpn.drops import Refused
from kairos_net_vpn.offloads import Offloads
from kairos_net_vpn.path import Via
from kairos_net_vpn.paths import Probe
from kairos_net_vpn.peer import Endpoint
from kairos_net_vpn.session import Session
from kairos_net_vpn.sides import Tale
from kairos_net_vpn.tunnel import Tunnel
from kairos_net_vpn.underlay import Underlay


class Carriage(Underlay):
    """Sends to endpoints and through relays, and passes on what others want to have relayed."""

    def __init__(self, udp: socket.socket, allowed: Offloads, tunnel: Tunnel, clock: Callable[[], float]) -> None:
        super().__init__(udp, allowed, tunnel.drops)
        self._tunnel = tunnel
        self._clock = clock

    def flush(self, outbox: Iterable[tuple[bytes, Endpoint]]) -> None:
        """Send what is not data: handshakes, keepalives, probes."""
        for datagram, endpoint in outbox:
            if isinstance(datagram, Probe) and not isinstance(endpoint, Via):
                self.send_whole(datagram, endpoint)
            else:
                self.send(datagram, endpoint)

    def _divert(self, datagrams: Sequence[bytes | memoryview], endpoint: Endpoint | None) -> int:
        return self._relay(datagrams, endpoint) if isinstance(endpoint, Via) else super()._divert(datagrams, endpoint)

    def forward(self, session: Session, plain: bytes, source: Endpoint) -> None:
        """Pass on what a peer wants to have relayed, or count why not."""
        now = self._clock()
        try:
            target, message = self._tunnel.relaying.forward(session, plain, source, now)
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1
            return
        self._send_side(target, message, now)

    def unwrap(self, session: Session, plain: bytes, source: Endpoint) -> tuple[Tale, Via] | None:
        """Return what came through a relay, or None and count why not."""
        try:
            return self._tunnel.relaying.unwrap(session, plain, source)
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1
            return None

    def _relay(self, datagrams: Sequence[bytes | memoryview], via: Via) -> int:
        """Send datagrams of one size, the last of which may be shorter, through a relay; return their bytes."""
        now = self._clock()
        try:
            session, messages = self._tunnel.relaying.wrap(datagrams, via, now)
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1
            return 0
        for message in messages:
            self._send_side(session, message, now)
        return sum(map(len, datagrams))

    def _send_side(self, session: Session, message: bytes, now: float) -> None:
        peer = session.peer
        datagrams = session.sealer.seal_side(message, peer.datagram)
        self._tunnel.has_sent(session, self.send_uneven(datagrams, peer.endpoint), now)
