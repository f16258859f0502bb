"""This machine's addresses in its LAN, which peers may try, and the MTU there. From ioctl and /proc."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from kairos_net_vpn.prefixes import Prefix

_SIOCGIFCONF, _SIOCGIFFLAGS, _SIOCGIFMTU = 0x8912, 0x8913, 0x8921
_IFREQ = 40
_IFF_UP = 1
_RTF_GATEWAY, _RTF_REJECT, _RTF_LOCAL = 0x0002, 0x0200, 0x80000000  # linux/route.h, linux/ipv6_route.h
_MAX_INTERFACES = 512
_UNFIT = 0x01 | 0x08 | 0x20 | 0x40  # temporary, duplicate, deprecated, tentative (linux/if_addr.h)
_IPV6_TABLE = "/proc/net/if_inet6"

_VIRTUAL = ("lo", "docker", "veth", "br-", "cni", "flannel", "cali", "virbr", "kube", "kairos")
"""Interfaces whose addresses mean something on this machine only, by the start of their names."""


@dataclass(frozen=True, slots=True)
class Lan:
    """Where this machine is reached, best first, the smallest MTU of those interfaces, and all that it is in."""

    hosts: tuple[str, ...]
    mtu: int
    networks: tuple[Connected, ...] = ()


@dataclass(frozen=True, slots=True)
class Connected:
    """A network that an interface of this machine is in, LAN or not."""

    interface: str
    prefix: Prefix

    def __str__(self) -> str:
        return f"{self.prefix} of {self.interface}"


def read_lan(tunnel: str) -> Lan:
    """Return this machine's LAN addresses, those of the tunnel itself left out. Costs about 0.2 ms."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        found = [
            (name, host)
            for name, host in (*_ipv4_addresses(control), *_ipv6_addresses())
            if name != tunnel and not name.startswith(_VIRTUAL) and _is_up(control, name)
        ]
        mtus = [mtu for name in {name for name, _ in found} if (mtu := _mtu(control, name))]
    return Lan(tuple(dict.fromkeys(host for _, host in found)), min(mtus, default=1500), _connected(tunnel))


def interface_of(address: IPv4Address, tunnel: str) -> str | None:
    """Return the interface of this machine, other than the tunnel, that has an address; None when none has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        found = (name for name, host in _ipv4_addresses(control) if host == str(address) and name != tunnel)
        return next(found, None)


def is_up(interface: str) -> bool:
    """Say whether an interface is there and up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return _is_up(control, interface)


def _ipv4_addresses(control: socket.socket) -> Iterator[tuple[str, str]]:
    """Yield (interface, address). Source: netdevice(7), SIOCGIFCONF: an array of struct ifreq."""
    buffer = array.array("B", bytes(_IFREQ * _MAX_INTERFACES))
    location, size = buffer.buffer_info()
    size, _ = struct.unpack("iP", fcntl.ioctl(control, _SIOCGIFCONF, struct.pack("iP", size, location)))
    entries = buffer.tobytes()
    for start in range(0, size, _IFREQ):
        name = entries[start : start + 16].split(b"\0")[0].decode(errors="replace")
        yield name.partition(":")[0], socket.inet_ntoa(entries[start + 20 : start + 24])


def _ipv6_addresses() -> Iterator[tuple[str, str]]:
    """Yield (interface, address) of the global scope that are fit for use. No table: no IPv6."""
    for digits, _, _, scope, flags, name in _rows(_IPV6_TABLE):
        if int(scope, 16) == 0 and not int(flags, 16) & _UNFIT:
            yield name, str(IPv6Address(bytes.fromhex(digits)))


def _connected(tunnel: str) -> tuple[Connected, ...]:
    """Return the networks that this machine reaches without a gateway, from the kernel's tables in /proc."""
    found = [*_ipv4_networks(), *_ipv6_networks()]
    return tuple(sorted({each for each in found if each.interface not in ("lo", tunnel)}, key=str))


def _ipv4_networks() -> Iterator[Connected]:
    """Source: fib_route_seq_show in linux/net/ipv4/fib_trie.c; addresses are numbers in this machine's order."""
    for name, destination, _, flags, _, _, _, mask, *_ in _rows("/proc/net/route")[1:]:
        if not int(flags, 16) & (_RTF_GATEWAY | _RTF_REJECT) and mask != "00000000":
            address, length = socket.ntohl(int(destination, 16)), int(mask, 16).bit_count()
            yield Connected(name, IPv4Network((address, length)))


def _ipv6_networks() -> Iterator[Connected]:
    """Source: ipv6_route_native_seq_show in linux/net/ipv6/route.c."""
    for destination, length, *_, flags, name in _rows("/proc/net/ipv6_route"):
        if not int(flags, 16) & (_RTF_GATEWAY | _RTF_REJECT | _RTF_LOCAL) and int(length, 16):
            yield Connected(name, IPv6Network((bytes.fromhex(destination), int(length, 16))))


def _rows(path: str) -> list[list[str]]:
    try:
        with open(path) as table:
            return [line.split() for line in table]
    except OSError:  # a kernel without this family
        return []


def _is_up(control: socket.socket, name: str) -> bool:
    return bool(_ask(control, _SIOCGIFFLAGS, name, "H") & _IFF_UP)


def _mtu(control: socket.socket, name: str) -> int:
    return _ask(control, _SIOCGIFMTU, name, "i")


def _ask(control: socket.socket, request: int, name: str, field: str) -> int:
    """Return one number of an interface; 0 when it went away meanwhile."""
    try:
        answer = fcntl.ioctl(control, request, struct.pack("16s24x", name.encode()))
    except OSError:
        return 0
    (number,) = struct.unpack_from(field, answer, 16)
    return int(number)
