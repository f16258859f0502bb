"""The datagram lane: UDP, bytes as given. What is in them is sealed and opened by the core.

It reads and writes the sockets itself: asyncio's datagram transport keeps what the kernel does not take at
once in a queue without a bound, and tells nobody.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from kairos_core import MAX_DATAGRAM, Address, Drop, TransportHost
from kairos_transport_tls.drops import TlsDrop
from kairos_transport_tls.sockets import from_kernel, parse_host, to_kernel

_BATCH = 64
"""Datagrams taken in one turn of the event loop. More is faster under load, and a flood holds up all else
longer."""

_REASONS = {
    errno.EMSGSIZE: TlsDrop.PATH_MTU,
    errno.EAGAIN: TlsDrop.SEND_BUFFER_FULL,
    errno.ENOBUFS: TlsDrop.SEND_BUFFER_FULL,
}


class DatagramLane:
    """Sends and receives datagrams on bound sockets, which it closes in the end."""

    def __init__(self, sockets: Sequence[socket.socket], host: TransportHost) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._sockets = tuple(sockets)
        for each in self._sockets:
            self._loop.add_reader(each, self._receive, each)

    def close(self) -> None:
        """Stop receiving and close the sockets."""
        for each in self._sockets:
            self._loop.remove_reader(each)
            each.close()
        self._sockets = ()

    def send(self, datagram: bytes, destination: Address) -> None:
        """Hand a datagram to the kernel; what it does not take is counted."""
        reason = self._try_send(datagram, destination) if self._sockets else None
        if reason is not None:
            self._host.dropped(reason)

    def _try_send(self, datagram: bytes, destination: Address) -> str | None:
        if len(datagram) > MAX_DATAGRAM:
            return Drop.OVERSIZED
        ip = parse_host(destination.host)
        if ip is None:
            return TlsDrop.NOT_AN_ADDRESS
        reason: str | None = TlsDrop.UNREACHABLE
        # With several listening addresses only some can reach a destination; the kernel knows which.
        for each in self._sockets:
            reason = _send_from(each, datagram, ip, destination.port)
            if reason != TlsDrop.UNREACHABLE:
                break
        return reason

    def _receive(self, source: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                data, name = source.recvfrom(MAX_DATAGRAM + 1)
            except OSError:  # nothing more to read, or an ICMP error about a datagram that is lost anyway
                return
            if len(data) > MAX_DATAGRAM:
                self._host.dropped(Drop.OVERSIZED)
            else:
                self._host.datagram_received(data, from_kernel(name))
            if not self._sockets:  # the host closed us
                return


def _send_from(sender: socket.socket, datagram: bytes, ip: IPv4Address | IPv6Address, port: int) -> str | None:
    """Send one datagram and say why it was lost, None if it was not."""
    if sender.family == socket.AF_INET6 and isinstance(ip, IPv4Address):
        ip = IPv6Address(f"::ffff:{ip}")
    elif sender.family == socket.AF_INET and isinstance(ip, IPv6Address):
        return TlsDrop.UNREACHABLE
    try:
        sender.sendto(datagram, to_kernel(ip, port))
    except (OSError, OverflowError, ValueError) as error:  # the latter: a port, or an interface name, that is none
        return _REASONS.get(getattr(error, "errno", None) or 0, TlsDrop.UNREACHABLE)
    return None
