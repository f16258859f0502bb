"""The UDP socket as the data plane uses it: many datagrams at once where the kernel can.

Sources: linux/udp.h, udp(7).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol, TypeAlias

from kairos_net_vpn.datagrams import MAX_PAYLOAD, MAX_SEGMENTS, SOL_UDP, UDP_SEGMENT
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


class Sender(Protocol):
    """A socket that is connected."""

    @property
    def send(self) -> Callable[[bytes | memoryview], int]:
        """Send a datagram. Raises OSError."""


class Underlay:
    """Sends and receives datagrams; `gso` and `gro` say whether many at once."""

    def __init__(self, udp: socket.socket, allowed: Offloads, drops: Counter[VpnDrop]) -> None:
        self._udp = udp
        self._drops = drops
        self.hotlines: dict[Endpoint | None, Sender] = {}
        """What single datagrams to an endpoint are sent by, where there is something better than the socket for all."""
        self.gso = allowed.gso and _has_gso(udp)
        self.gro = allowed.gro and _set(udp, UDP_GRO, 1)
        if not allowed.gro:  # a data plane before this one may have asked for it
            _set(udp, UDP_GRO, 0)

    def receive(self, buffers: list[memoryview]) -> tuple[int, int, Endpoint] | None:
        """Receive into buffers: bytes in all, bytes of each datagram, and their source; None when nothing waits."""
        while True:
            try:
                length, ancillary, _, source = self._udp.recvmsg_into(buffers, _ANCILLARY)
            except BlockingIOError:
                return None
            except OSError:  # an ICMP error of an earlier datagram; the peer's silence says the same
                continue
            for _, kind, value in ancillary:
                if kind == UDP_GRO:
                    return length, int.from_bytes(value, "little"), source
            return length, max(length, 1), source

    def send(self, datagram: bytes | memoryview, endpoint: Endpoint | None) -> None:
        """Send a datagram."""
        hotline = self.hotlines.get(endpoint)
        if hotline is not None:
            try:
                hotline.send(datagram)
            except OSError:  # the socket for all may know better
                del self.hotlines[endpoint]
            else:
                return
        if type(endpoint) is not tuple:
            self._divert((datagram,), endpoint)
            return
        try:  # sendmsg would take 1 us more
            self._udp.sendto(datagram, endpoint)
        except OSError as error:
            self._drops[_DROPS.get(error.errno or 0, VpnDrop.UNREACHABLE)] += 1

    def _divert(self, datagrams: Sequence[bytes | memoryview], endpoint: Endpoint | None) -> int:
        """Send datagrams of one size, the last of which may be shorter, where no socket goes; return their bytes."""
        self._drops[VpnDrop.UNREACHABLE] += len(datagrams)
        return 0

    def send_whole(self, datagram: bytes, endpoint: Endpoint) -> None:
        """Send a datagram that nobody on the way may fragment; where it is too large for our interface, it is lost."""
        for level, option in _DISCOVER:
            _set(self._udp, option, _PMTUDISC_PROBE, level)
        try:
            self._udp.sendto(datagram, endpoint)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                self._drops[_DROPS.get(error.errno or 0, VpnDrop.UNREACHABLE)] += 1
        finally:
            let_fragment(self._udp)

    def send_record(self, wire: memoryview, size: int, endpoint: Endpoint | None) -> int:
        """Send what is datagrams of one size, the last of which may be shorter; return its bytes."""
        if type(endpoint) is not tuple:
            return self._divert(split((wire,), size), endpoint)
        length, (control, most, limit) = len(wire), _segments(size)
        if size < length <= limit and self.gso:
            try:
                self._udp.sendmsg((wire,), control, 0, endpoint)
            except OSError as error:
                self._refused(error, (wire,), size, endpoint)
        else:
            for at in range(0, length, most):
                self._send_alike((wire[at : at + most],), size, control, endpoint)
        return length

    def send_uneven(self, datagrams: Sequence[memoryview], endpoint: Endpoint | None) -> int:
        """Send datagrams, runs of one size together; return their bytes."""
        if len(datagrams) == 1:
            self.send(datagrams[0], endpoint)
            return len(datagrams[0])
        sizes, first = list(map(len, datagrams)), 0
        while first < len(sizes):
            size = sizes[first]
            end = first + 1
            control, most, _ = _segments(size)
            limit = min(len(sizes), first + max(1, most // size))
            while end < limit and sizes[end] == size:
                end += 1
            if end < limit and sizes[end] < size:  # the last may be shorter
                end += 1
            if type(endpoint) is tuple:
                self._send_alike(datagrams[first:end], size, control, endpoint)
            else:
                self._divert(datagrams[first:end], endpoint)
            first = end
        return sum(sizes)

    def _send_alike(self, parts: Sequence[memoryview], size: int, control: Control, endpoint: Endpoint) -> None:
        """Send datagrams of one size in any parts; the last datagram may be shorter."""
        is_many = len(parts) > 1 or len(parts[0]) > size
        try:
            if not is_many:
                self._udp.sendto(parts[0], endpoint)
            elif self.gso:
                self._udp.sendmsg(parts, control, 0, endpoint)
            else:
                for datagram in split(parts, size):
                    self._udp.sendto(datagram, endpoint)
        except OSError as error:
            self._refused(error, parts if is_many else (), size, endpoint)

    def _refused(self, error: OSError, parts: Sequence[memoryview], size: int, endpoint: Endpoint) -> None:
        """Send the datagrams of a send that failed one by one, if that may help."""
        if error.errno in _UNSUPPORTED and parts and self.gso:
            for datagram in split(parts, size):
                self._send_alike((datagram,), size, [], endpoint)
            self.gso = error.errno == errno.EINVAL
        else:
            self._drops[_DROPS.get(error.errno or 0, VpnDrop.UNREACHABLE)] += 1


def let_fragment(udp: socket.socket) -> None:
    """Have whoever is on the way fragment what is too large for it, as device.py does for the socket that it opens."""
    for level, option in _DISCOVER:
        _set(udp, option, _PMTUDISC_DONT, level)


def split(parts: Sequence[memoryview], size: int) -> list[memoryview]:
    """Return datagrams, each begins in a part at a multiple of `size` bytes."""
    return [part[at : at + size] for part in parts for at in range(0, len(part), size)]


@lru_cache(maxsize=256)
def _segments(size: int) -> tuple[Control, int, int]:
    """Return the control message for datagrams of one size, and how many bytes of them one send may have.

    The first figure is for whole ones, the second where the last may be shorter.
    """
    most = max(1, min(MAX_SEGMENTS, MAX_PAYLOAD // size)) * size
    limit = min(MAX_SEGMENTS * size, MAX_PAYLOAD)
    return [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))], most, limit


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
