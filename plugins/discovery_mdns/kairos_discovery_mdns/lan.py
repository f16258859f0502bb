"""On which interfaces to announce, and which addresses of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface

from kairos_core import is_lan_interface
from kairos_discovery_mdns.links import Interface, Link


@dataclass(frozen=True, slots=True)
class Lan:
    """Where multicast DNS works on this machine. Equal values mean that nothing needs to be done."""

    sources: tuple[str | int, ...] = ()
    """What zeroconf binds to: one IPv4 address and, for IPv6, the index of each interface."""

    addresses: tuple[str, ...] = ()
    """What we announce."""

    names: tuple[str, ...] = ()


def lan_of(links: Sequence[Link], forced: Sequence[str] = ()) -> Lan:
    """Choose the interfaces: those of `forced` that are up, else all that look like a local network."""
    sources: list[str | int] = []
    addresses: list[str] = []
    names: list[str] = []
    for link in links:
        usable = _reachable(link.addresses)
        if not link.is_up or not usable or not _is_chosen(link, forced):
            continue
        names.append(link.name)
        addresses += [str(interface.ip) for interface in usable]
        sources += [str(interface.ip) for interface in usable if interface.version == 4][:1]
        sources += [link.index] * any(interface.version == 6 for interface in usable)
    return Lan(tuple(sources), tuple(dict.fromkeys(addresses)), tuple(names))


def _is_chosen(link: Link, forced: Sequence[str]) -> bool:
    if forced:
        return link.name in forced
    return link.is_broadcast and is_lan_interface(link.name)


def _reachable(addresses: Sequence[Interface]) -> list[Interface]:
    # A /32 beside the address of a subnet is an elastic IP that is here today and elsewhere tomorrow.
    has_subnet = any(isinstance(a, IPv4Interface) and a.network.prefixlen < 32 for a in addresses)
    return [
        a
        for a in addresses
        if not a.ip.is_loopback and not (has_subnet and isinstance(a, IPv4Interface) and a.network.prefixlen == 32)
    ]
