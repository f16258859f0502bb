"""The UDP socket as the data plane uses it: many datagrams at once where the kernel can.

Sources: linux/udp.h, udp(7).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from typing import TypeAlias

from kairos_net_vpn.batch import HEADER_SIZE, MAX_PAYLOAD, MAX_SEGMENTS, SOL_UDP, UDP_SEGMENT, Batch
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.offloads import Offloads
from kairos_net_vpn.peer import Endpoint

UDP_GRO = 104
Control: TypeAlias = list[tuple[int, int, bytes]]
_ANCILLARY = socket.CMSG_SPACE(4)
_UNSUPPORTED = frozenset({errno.EIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT})
"""What a send with UDP_SEGMENT says where the device cannot: EIO without checksum offload, EINVAL where a datagram
is larger than the path's MTU."""

_DISCOVER = ((socket.IPPROTO_IP, 10), (socket.IPPROTO_IPV6, 23))  # IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
_PMTUDISC_DONT, _PMTUDISC_PROBE = 0, 3  # linux/in.h

_DROPS = {
    errno.EMSGSIZE: VpnDrop.OVERSIZED,
    errno.EAGAIN: VpnDrop.SEND_FULL,
    errno.ENOBUFS: VpnDrop.SEND_FULL,
}


class Underlay:
    """Sends and receives datagrams; `gso` and `gro` say whether many at once."""

    def __init__(self, udp: socket.socket, allowed: Offloads, drops: Counter[VpnDrop]) -> None:
        self._udp = udp
        self._drops = drops
        self.gso = allowed.gso and _has_gso(udp)
        self.gro = allowed.gro and _set(udp, UDP_GRO, 1)
        if not allowed.gro:  # a data plane before this one may have asked for it
            _set(udp, UDP_GRO, 0)

    def receive(self, iov: list[memoryview]) -> tuple[int, int, Endpoint] | None:
        """Receive into buffers: bytes in all, bytes of each datagram, and their source; None when nothing waits."""
        while True:
            try:
                length, ancillary, _, source = self._udp.recvmsg_into(iov, _ANCILLARY)
            except BlockingIOError:
                return None
            except OSError:  # an ICMP error of an earlier datagram; the peer's silence says the same
                continue
            for _, kind, value in ancillary:
                if kind == UDP_GRO:
                    return length, int.from_bytes(value, "little"), source
            return length, max(length, 1), source

    def send(self, datagram: bytes, endpoint: Endpoint | None) -> None:
        try:
            self._udp.sendmsg((datagram,), (), 0, endpoint)
        except OSError as error:
            self._drops[_DROPS.get(error.errno or 0, VpnDrop.UNREACHABLE)] += 1

    def send_whole(self, datagram: bytes, endpoint: Endpoint | None) -> None:
        """Send a datagram that nobody on the way may fragment; where it is too large for our interface, it is lost."""
        for level, option in _DISCOVER:
            _set(self._udp, option, _PMTUDISC_PROBE, level)
        try:
            self._udp.sendmsg((datagram,), (), 0, endpoint)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                self._drops[_DROPS.get(error.errno or 0, VpnDrop.UNREACHABLE)] += 1
        finally:
            for level, option in _DISCOVER:
                _set(self._udp, option, _PMTUDISC_DONT, level)

    def send_batch(self, batch: Batch, length: int, endpoint: Endpoint | None) -> int:
        """Send the datagrams whose bodies are the first `length` bytes of a batch's; return bytes on the wire."""
        iov = batch.filled(length)
        step = 2 * batch.per_send
        if len(iov) <= step:
            self._send_alike(iov, batch.control, endpoint)
        else:
            for first in range(0, len(iov), step):
                self._send_alike(iov[first : first + step], batch.control, endpoint)
        return length + HEADER_SIZE * (len(iov) // 2)

    def send_uneven(self, iov: list[memoryview], endpoint: Endpoint | None) -> int:
        """Send datagrams (header and body in turn), runs of one size together; return bytes on the wire."""
        if len(iov) == 2:
            self._send_alike(iov, [], endpoint)
            return len(iov[0]) + len(iov[1])
        total, first = 0, 0
        sizes = [len(iov[at]) + len(iov[at + 1]) for at in range(0, len(iov), 2)]
        while first < len(sizes):
            size = sizes[first]
            end = first + 1
            limit = min(len(sizes), first + max(1, min(MAX_SEGMENTS, MAX_PAYLOAD // size)))
            while end < limit and sizes[end] == size:
                end += 1
            if end < limit and sizes[end] < size:  # the last may be shorter
                end += 1
            self._send_alike(iov[2 * first : 2 * end], [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))], endpoint)
            total += sum(sizes[first:end])
            first = end
        return total

    def _send_alike(
        self, iov: list[memoryview], control: list[tuple[int, int, bytes]], endpoint: Endpoint | None
    ) -> None:
        try:
            if len(iov) > 2 and self.gso:
                self._udp.sendmsg(iov, control, 0, endpoint)
                return
            for at in range(0, len(iov), 2):
                self._udp.sendmsg(iov[at : at + 2], (), 0, endpoint)
        except OSError as error:
            if error.errno in _UNSUPPORTED and len(iov) > 2 and self.gso:
                self._send_each(iov, endpoint)
                self.gso = error.errno == errno.EINVAL
            else:
                self._drops[_DROPS.get(error.errno or 0, VpnDrop.UNREACHABLE)] += 1

    def _send_each(self, iov: list[memoryview], endpoint: Endpoint | None) -> None:
        for at in range(0, len(iov), 2):
            self._send_alike(iov[at : at + 2], [], endpoint)


def _has_gso(udp: socket.socket) -> bool:
    try:
        udp.getsockopt(SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True


def _set(udp: socket.socket, option: int, value: int, level: int = SOL_UDP) -> bool:
    try:
        udp.setsockopt(level, option, value)
    except OSError:
        return False
    return True
