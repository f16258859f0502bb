"""This machine's routes into the tunnel: a writer of RTNETLINK messages, for what ioctls do badly.

Sources: rtnetlink(7), netlink(7), linux/rtnetlink.h, linux/netlink.h. A netlink library would cost the agent
20 MB; these are two messages.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Set
from ipaddress import ip_network

from kairos_net_vpn.prefixes import Prefix

PROTOCOL = 75
"""Marks our routes (`ip route show proto 75`). Ours: 16 to 255 are free for programs, and nobody has this one."""

_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE, _NLMSG_ERROR, _NLMSG_DONE = 24, 25, 26, 2, 3
_DUMP = 0x300
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x001, 0x004, 0x200, 0x400
_RTA_DST, _RTA_OIF = 1, 4
_MAIN_TABLE, _SCOPE_LINK, _SCOPE_NOWHERE, _UNICAST = 254, 253, 255, 1
_HEADER, _ROUTE, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=8BI"), struct.Struct("=HH")
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


REMEMBERED = 30.0
"""Seconds for which routes of an agent before us stay although nobody offers them: one that has just started does not
know all peers yet. Raising it sends packets for longer into a tunnel without a way on."""


class KernelRoutes:
    """The routes of one interface that are ours. They vanish with the interface; others' are never touched."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._index = 0
        self._installed: set[Prefix] = set()
        self._found: set[Prefix] = set()  # of an agent before us; kept for a while although nobody wants them yet
        self._keep_until = 0.0

    def update(self, wanted: Set[Prefix]) -> dict[Prefix, str]:
        """Make our routes those wanted, also after the interface was made anew or somebody removed one.

        Returns why some could not be made. Costs 20 us for each; does not wait.
        """
        try:
            index = socket.if_nametoindex(self._interface)
        except OSError:  # gone: its routes are too, and it is made again with the data plane
            self._installed.clear()
            return {}
        if index != self._index:
            self._index, self._installed = index, _routes_of(index)
            self._found, self._keep_until = self._installed.copy(), time.monotonic() + REMEMBERED
        if not wanted and not self._installed:
            return {}
        kept = self._found if time.monotonic() < self._keep_until else set()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
            for prefix in self._installed - wanted - kept:
                self._remove(netlink, prefix)
            failed = {prefix: self._add(netlink, prefix) for prefix in sorted(wanted, key=str)}
        return {prefix: reason for prefix, reason in failed.items() if reason}

    def _add(self, netlink: socket.socket, prefix: Prefix) -> str:
        code = _ask(netlink, _route(_RTM_NEWROUTE, _REQUEST | _ACK | _CREATE | _EXCLUSIVE, prefix, self._index))
        if code == 0 or (code == errno.EEXIST and prefix in self._installed):
            self._installed.add(prefix)
            return ""
        self._installed.discard(prefix)
        return "this machine has another route there" if code == errno.EEXIST else os.strerror(code)

    def _remove(self, netlink: socket.socket, prefix: Prefix) -> None:
        _ask(netlink, _route(_RTM_DELROUTE, _REQUEST | _ACK, prefix, self._index))  # gone already is as good
        self._installed.discard(prefix)


def _route(kind: int, flags: int, prefix: Prefix, index: int) -> bytes:
    """Return a message that adds or removes a route to a prefix out of an interface."""
    scope = _SCOPE_LINK if kind == _RTM_NEWROUTE else _SCOPE_NOWHERE
    body = _ROUTE.pack(_FAMILIES[prefix.version], prefix.prefixlen, 0, 0, _MAIN_TABLE, PROTOCOL, scope, _UNICAST, 0)
    body += _attribute(_RTA_DST, prefix.network_address.packed) + _attribute(_RTA_OIF, struct.pack("=I", index))
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def _routes_of(index: int) -> set[Prefix]:
    """Return the routes out of an interface that carry our mark."""
    request = _HEADER.pack(_HEADER.size + _ROUTE.size, _RTM_GETROUTE, _REQUEST | _DUMP, 1, 0) + bytes(_ROUTE.size)
    found: set[Prefix] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.sendto(request, (0, 0))
        while True:
            answer = netlink.recv(1 << 16)
            while answer:
                length, kind, *_ = _HEADER.unpack_from(answer)
                if kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    return found
                prefix = _read_route(answer[_HEADER.size : length], index)
                found |= {prefix} if prefix is not None else set()
                answer = answer[(length + 3) & ~3 :]


def _read_route(message: bytes, index: int) -> Prefix | None:
    """Return the prefix of a route if it is ours and out of an interface."""
    family, size, _, _, _, protocol, *_ = _ROUTE.unpack_from(message)
    if protocol != PROTOCOL or family not in _FAMILIES.values():
        return None
    values: dict[int, bytes] = {}
    at = _ROUTE.size
    while at < len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        values[kind] = message[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    if values.get(_RTA_OIF) != struct.pack("=I", index):
        return None
    address = values.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))  # none: the default route
    return ip_network((address, size))


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value  # 4 and 16 bytes need no padding


def _ask(netlink: socket.socket, message: bytes) -> int:
    """Send a message and return the kernel's verdict: 0, or the number of an error."""
    netlink.sendto(message, (0, 0))
    answer = netlink.recv(4096)
    _, kind, *_ = _HEADER.unpack_from(answer)
    (code,) = struct.unpack_from("=i", answer, _HEADER.size)
    return -code if kind == _NLMSG_ERROR else errno.EPROTO
