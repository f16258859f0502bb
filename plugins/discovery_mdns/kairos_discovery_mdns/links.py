"""The network interfaces of this machine and their addresses, and notice of any change: by netlink.

Netlink answers for the network namespace of the calling thread, tells tentative addresses from usable ones,
and needs no polling. Numbers are those of linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h and if.h.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from types import TracebackType

from kairos_core import NetworkError

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port id
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 18, 20, 22
_NLM_F_DUMP_REQUEST = 0x301
_RTMGRP = 0x1 | 0x10 | 0x100  # links, IPv4 addresses, IPv6 addresses
_IFLA_IFNAME = 3
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFF_UP, _IFF_LOOPBACK, _IFF_POINTOPOINT, _IFF_MULTICAST = 0x1, 0x8, 0x10, 0x1000
# Addresses we do not announce: not yet or no longer usable, or (IPv6) temporary for outgoing connections.
_IFA_F_TEMPORARY, _IFA_F_UNUSABLE = 0x01, 0x08 | 0x20 | 0x40  # failed, deprecated, tentative

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Link:
    """An interface: its index, name, IFF_ flags, and the addresses under which others can reach it."""

    index: int
    name: str
    flags: int
    addresses: tuple[Interface, ...] = ()

    @property
    def is_up(self) -> bool:
        return bool(self.flags & _IFF_UP)

    @property
    def is_broadcast(self) -> bool:
        """Whether it can carry multicast to several machines: no loopback, no tunnel."""
        return self.flags & (_IFF_MULTICAST | _IFF_LOOPBACK | _IFF_POINTOPOINT) == _IFF_MULTICAST


def read_links() -> tuple[Link, ...]:
    """Return the interfaces of this network namespace, by index. Costs about 100 us. Raises NetworkError."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
            links = dict(_parse_link(body) for body in _dump(route, _RTM_GETLINK, _RTM_NEWLINK))
            found = [_parse_address(body) for body in _dump(route, _RTM_GETADDR, _RTM_NEWADDR)]
    except OSError as error:
        raise NetworkError(f"cannot read the network interfaces: {error}. Is netlink forbidden here?") from error
    by_link: dict[int, list[Interface]] = {}
    for index, interface in found:
        if interface is not None:
            by_link.setdefault(index, []).append(interface)
    return tuple(
        Link(index, name, flags, tuple(by_link.get(index, ()))) for index, (name, flags) in sorted(links.items())
    )


def _dump(route: socket.socket, request: int, answer: int) -> Iterator[bytes]:
    route.send(_HEADER.pack(_HEADER.size + 8, request, _NLM_F_DUMP_REQUEST, 1, 0) + bytes(8))
    while True:
        data = route.recv(1 << 17)
        while data:
            length, kind, *_ = _HEADER.unpack_from(data)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                raise OSError(-int.from_bytes(data[16:20], "little", signed=True), "netlink refused the request")
            if kind == answer:
                yield data[_HEADER.size : length]
            data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        found[kind] = data[_ATTRIBUTE.size : length]
        data = data[max(4, (length + 3) & ~3) :]
    return found


def _parse_link(body: bytes) -> tuple[int, tuple[str, int]]:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    name = _attributes(body[_LINK.size :]).get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
    return index, (name, flags)


def _parse_address(body: bytes) -> tuple[int, Interface | None]:
    family, prefix, short_flags, _, index = _ADDRESS.unpack_from(body)
    attributes = _attributes(body[_ADDRESS.size :])
    wide = attributes.get(_IFA_FLAGS)
    flags = struct.unpack("=I", wide)[0] if wide else short_flags
    # On a point-to-point interface IFA_ADDRESS is the far end, and IFA_LOCAL ours.
    raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    unusable = _IFA_F_UNUSABLE | (_IFA_F_TEMPORARY if family == socket.AF_INET6 else 0)
    if raw is None or flags & unusable or family not in (socket.AF_INET, socket.AF_INET6):
        return index, None
    return index, ip_interface(f"{ip_address(raw)}/{prefix}")


class LinkWatch:
    """Notices that an interface or address came, went or changed."""

    def __init__(self) -> None:
        """Listen to the kernel. Raises NetworkError."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._socket.bind((0, _RTMGRP))
        except OSError as error:
            raise NetworkError(f"cannot watch the network interfaces: {error}. Is netlink forbidden here?") from error
        self._socket.setblocking(False)
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._socket, self._drain)

    def _drain(self) -> None:
        # What changed is read anew; ENOBUFS (too many changes at once) means no more than that either.
        with suppress(OSError):
            while self._socket.recv(1 << 16):
                pass
        self._changed.set()

    async def changed(self, at_most: float) -> None:
        """Wait for a change, or `at_most` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                await self._changed.wait()
        self._changed.clear()

    def __enter__(self) -> LinkWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
