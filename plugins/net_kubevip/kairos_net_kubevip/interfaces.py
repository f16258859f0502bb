"""The interface that carries the elastic IP, and this machine's address on it.

Everything is asked for the network namespace of the calling thread. Numbers are those of linux/sockios.h and
linux/route.h; the formats of /proc are those of proc(5).
"""

from __future__ import annotations

import fcntl
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path

from kairos_core import NetworkError, is_lan_interface
from kairos_net_kubevip.settings import Ip

_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B
_PROC = Path("/proc/thread-self/net")
_RTF_UP, _RTF_REJECT = 0x1, 0x200
_IFA_F_UNUSABLE = 0x01 | 0x08 | 0x20 | 0x40  # temporary, failed, deprecated, tentative

Interface = IPv4Interface | IPv6Interface


def carrier_of(eip: Ip, configured: str = "") -> tuple[str, Interface] | tuple[None, None]:
    """Return the interface that carries the elastic IP and our own address there, (None, None) for unknown.

    That is the configured one, else the LAN interface on whose subnet the elastic IP lies, else the one of
    the default route: never a bridge or tunnel of containers or of our own. Raises NetworkError where the
    configured one does not exist or has no address.
    """
    names = [name for _, name in socket.if_nameindex()]
    if configured:
        return configured, _own_address(configured, names, eip)
    addresses = {name: found for name in names if is_lan_interface(name) and (found := _address(name, eip))}
    for name, address in addresses.items():
        if eip in address.network:
            return name, address
    default = next((name for name in _default_routes(eip) if name in addresses), None)
    return (default, addresses[default]) if default else (None, None)


def _own_address(name: str, names: list[str], eip: Ip) -> Interface:
    if name not in names:
        raise NetworkError(
            f"kubevip.interface is {name!r}, but this machine has only {', '.join(sorted(names))}. "
            "Name one of these, or leave it empty"
        )
    address = _address(name, eip)
    if address is None:
        raise NetworkError(
            f"the interface {name!r} of kubevip.interface has no IPv{eip.version} address. "
            "Wait for DHCP, or set an address: kube-vip adds the elastic IP beside it"
        )
    return address


def _address(name: str, eip: Ip) -> Interface | None:
    return _ipv4_address(name) if eip.version == 4 else _ipv6_address(name)


def _ipv4_address(name: str) -> IPv4Interface | None:
    # The first address of the interface: an elastic IP that kube-vip added comes after it.
    request = struct.pack("16s240x", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query, suppress(OSError):
        address, mask = (
            socket.inet_ntoa(fcntl.ioctl(query, code, request)[20:24]) for code in (_SIOCGIFADDR, _SIOCGIFNETMASK)
        )
        return IPv4Interface(f"{address}/{mask}")
    return None


def _ipv6_address(name: str) -> IPv6Interface | None:
    for line in _lines("if_inet6"):
        raw, _, prefix, scope, flags, owner = line.split()
        if owner == name and scope == "00" and not int(flags, 16) & _IFA_F_UNUSABLE and int(prefix, 16) < 128:
            found = ip_interface(f"{socket.inet_ntop(socket.AF_INET6, bytes.fromhex(raw))}/{int(prefix, 16)}")
            return found if isinstance(found, IPv6Interface) else None
    return None


def _default_routes(eip: Ip) -> list[str]:
    return _default_routes_ipv4() if eip.version == 4 else _default_routes_ipv6()


def _default_routes_ipv4() -> list[str]:
    routes = []
    for line in _lines("route")[1:]:
        name, destination, _, flags, _, _, metric, mask, *_ = line.split()
        if int(destination, 16) == 0 == int(mask, 16) and _is_usable(flags):
            routes.append((int(metric), name))
    return [name for _, name in sorted(routes)]


def _default_routes_ipv6() -> list[str]:
    routes = []
    for line in _lines("ipv6_route"):
        destination, prefix, _, _, _, metric, _, _, flags, name = line.split()
        if int(destination, 16) == 0 == int(prefix, 16) and _is_usable(flags):
            routes.append((int(metric, 16), name))
    return [name for _, name in sorted(routes)]


def _is_usable(flags: str) -> bool:
    return int(flags, 16) & (_RTF_UP | _RTF_REJECT) == _RTF_UP


def _lines(name: str) -> list[str]:
    try:
        return (_PROC / name).read_text().splitlines()
    except OSError:  # a kernel without this protocol
        return []
