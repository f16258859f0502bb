"""The underlay with relays: what goes to a `Via` is wrapped and sent to the relay."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from kairos_net_vpn.batch import Batch
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

    def send(self, datagram: bytes, endpoint: Endpoint | None) -> None:
        if isinstance(endpoint, Via):
            self._relay((datagram,), endpoint)
        elif isinstance(datagram, Probe):
            self.send_whole(datagram, endpoint)
        else:
            super().send(datagram, endpoint)

    def send_batch(self, batch: Batch, length: int, endpoint: Endpoint | None) -> int:
        if not isinstance(endpoint, Via):
            return super().send_batch(batch, length, endpoint)
        return self._relay(_datagrams(batch.filled(length)), endpoint)

    def send_uneven(self, iov: list[memoryview], endpoint: Endpoint | None) -> int:
        if not isinstance(endpoint, Via):
            return super().send_uneven(iov, endpoint)
        datagrams = _datagrams(iov)
        first, total = 0, 0
        for end in range(1, len(datagrams) + 1):
            size = len(datagrams[first])
            if end == len(datagrams) or len(datagrams[end]) > size or len(datagrams[end - 1]) < size:
                total += self._relay(datagrams[first:end], endpoint)
                first = end
        return total

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

    def _relay(self, datagrams: Sequence[bytes], via: Via) -> int:
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
        iov = session.sealer.seal_side(message, peer.datagram)
        self._tunnel.has_sent(session, super().send_uneven(iov, peer.endpoint), now)


def _datagrams(iov: list[memoryview]) -> list[bytes]:
    """Join header and body of each datagram."""
    return [b"".join(iov[at : at + 2]) for at in range(0, len(iov), 2)]
