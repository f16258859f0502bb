"""The names of service instances, and from a peer's records to addresses. Pure; the records are hostile.

An instance is `<rendezvous>-<random>._kairos._udp.local.`: the name of the epoch, and sixteen random
characters of this run that tell our nodes apart. Source: RFC 6763, sections 4 and 7; RFC 6762, section 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address

from kairos_core import Address

SERVICE_TYPE = "_kairos._udp.local."

MAX_ADDRESSES = 16
"""Addresses taken from one instance. Raising it lets one forged record make us try more hosts."""


def instance_name(rendezvous: str, suffix: str) -> str:
    """Return the full name of our instance."""
    return f"{rendezvous}-{suffix}.{SERVICE_TYPE}"


def rendezvous_of(name: str) -> str | None:
    """Return the rendezvous name in the full name of an instance, None when there is none."""
    lowered = name.lower()  # names in the DNS have no case
    if not lowered.endswith("." + SERVICE_TYPE):
        return None
    rendezvous, dash, _ = lowered.removesuffix("." + SERVICE_TYPE).partition("-")
    return rendezvous if dash and rendezvous else None


def addresses_of(port: int | None, hosts: Iterable[str], links: Mapping[int, str]) -> tuple[Address, ...]:
    """Return where a peer may be reached, IPv4 first and link-local last; at most `MAX_ADDRESSES`.

    `hosts` are addresses as text, link-local ones with their scope (`fe80::1%2`); `links` names interfaces by
    index. Left out is what cannot be a peer on the local network: loopback, multicast, an unknown scope.
    """
    if port is None or not 0 < port < 65536:
        return ()
    texts = {host for text in hosts if (host := _host(text, links)) is not None}
    ordered = sorted(texts, key=lambda host: (":" in host, "%" in host, host))
    return tuple(Address(host, port) for host in ordered[:MAX_ADDRESSES])


def _host(text: str, links: Mapping[int, str]) -> str | None:
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, IPv6Address) and (ip.ipv4_mapped or ip.is_site_local):
        return None
    if ip.is_loopback or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return None
    if not isinstance(ip, IPv6Address) or not ip.is_link_local:
        return text.partition("%")[0]
    # Without its scope a link-local address leads anywhere: it came over IPv4, and will come again over IPv6.
    scope = ip.scope_id or ""
    link = links.get(int(scope)) if scope.isdecimal() and len(scope) < 10 else None
    return f"{text.partition('%')[0]}%{link}" if link else None
