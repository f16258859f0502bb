"""The addresses of this machine in its local networks, without those that containers and tunnels bring."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path

from kairos_core.lan import is_lan_interface
from kairos_core.model import Address, Attachment

_SIOCGIFADDR, _SIOCGIFFLAGS = 0x8915, 0x8913  # linux/sockios.h
_IFF_UP = 1
_LINK_SCOPE = "20"  # /proc/net/if_inet6, fourth column


@dataclass(frozen=True, slots=True)
class LanAddress:
    """An address of a local network and the interface that has it."""

    interface: str
    host: str


def lan_addresses() -> list[LanAddress]:
    """Return this machine's addresses in local networks, the interface of the default route first, IPv4 first."""
    preferred = default_interface()
    names = [name for _, name in socket.if_nameindex() if is_lan_interface(name) and _is_up(name)]
    names.sort(key=lambda name: name != preferred)
    four = [LanAddress(name, host) for name in names if (host := _ipv4(name))]
    return four + [address for address in _ipv6() if address.interface in names]


def default_interface() -> str | None:
    """Return the interface of the IPv4 default route with the lowest metric."""
    try:
        rows = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    except OSError:
        return None
    routes = [(int(row[6]), row[0]) for row in rows if len(row) > 7 and row[1] == "00000000" and row[7] == "00000000"]
    return min(routes)[1] if routes else None


def lan_attachment(towards: Iterable[Address] = ()) -> Attachment:
    """Return the attachment of a node without VPN: by the first interface that leads to a peer, else by the first.

    Of that it is the first address, whichever one a peer was met by: Kubernetes starts anew when it changes.
    """
    addresses = lan_addresses()
    sources = {_source_of_route(address) for address in towards}
    used = {address.interface for address in addresses if address.host in sources}
    for address in addresses:
        if address.interface in used or not used:
            return Attachment(interface=address.interface, node_ip=address.host)
    return Attachment()


def _source_of_route(towards: Address) -> str | None:
    family = socket.AF_INET6 if towards.is_ipv6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards.host, towards.port))  # chooses a route; sends nothing
            return str(probe.getsockname()[0])
        except OSError:
            return None


def _ioctl(request: int, interface: str) -> bytes | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            return fcntl.ioctl(handle, request, struct.pack("256s", interface[:15].encode()))
        except OSError:
            return None


def _is_up(interface: str) -> bool:
    answer = _ioctl(_SIOCGIFFLAGS, interface)
    return answer is not None and bool(struct.unpack_from("h", answer, 16)[0] & _IFF_UP)


def _ipv4(interface: str) -> str | None:
    answer = _ioctl(_SIOCGIFADDR, interface)
    return socket.inet_ntoa(answer[20:24]) if answer else None


def _ipv6() -> list[LanAddress]:
    try:
        rows = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    except OSError:
        return []
    return [LanAddress(row[5], str(IPv6Address(bytes.fromhex(row[0])))) for row in rows if row[3] != _LINK_SCOPE]
