"""From what the ledger says to what the data plane needs. Pure: the same statements give the same peers.

A node's topic entry: `{"key": X25519 public key, "port": UDP port, "address": "10.1.0.7", "hosts":
["192.0.2.7"], "records": 2, "ipv6": true, "routes": ["192.168.5.0/24"], "seen": ["203.0.113.5:40012"]}`. It is
signed by its author, so the key is bound to the identity. Which inner addresses a peer owns is not taken from it, but
from the leases; which networks lie behind it is, as far as the policy here allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from kairos_core import Address, PeerId, PeerLink
from kairos_net_vpn.lan import Connected
from kairos_net_vpn.messages import SetPeer
from kairos_net_vpn.peer import MAX_CANDIDATES
from kairos_net_vpn.prefixes import Prefix, Prefixes
from kairos_net_vpn.subnets import MAX_OFFERED, MAX_ROUTES, Choice, Offer, Rules, choose
from kairos_net_vpn.ula import ula_address

TOPIC = "vpn"
RECORDS = 2
"""The version of records.py that a node opens; without the field it is a stock WireGuard peer."""
KEY_SIZE = 32
MAX_SEEN = 2
"""Endpoints seen by others that are taken from one entry."""
MAX_HOSTS = 8
"""Addresses taken from one entry; more would let one entry make us knock at many doors."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A peer's topic entry, checked. Without a port it is away, but its key holds."""

    key: bytes
    port: int | None
    hosts: tuple[str, ...]
    records: bool = False
    has_ipv6: bool = False
    routes: tuple[str, ...] = ()
    seen: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator says of networks behind nodes: what is accepted, who is the router, what this one offers."""

    accepted: tuple[Prefix, ...] = ()
    router: IPv4Address | None = None
    offered: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """All that the roster is made of: what the node's host says at one moment."""

    me: PeerId
    own_key: bytes
    own_hosts: frozenset[str]
    pool: IPv4Network
    entries: Mapping[PeerId, Mapping[str, Any]]
    links: tuple[PeerLink, ...]
    leases: Mapping[IPv4Address, PeerId]
    ula: IPv6Network | None = None
    policy: Policy = Policy()
    networks: tuple[Connected, ...] = ()
    routed: frozenset[Prefix] = frozenset()  # by this very roster, when it was last made


@dataclass(frozen=True, slots=True)
class Roster:
    """The peers by public key, whose entries could not be used, and who carries which networks."""

    peers: Mapping[bytes, SetPeer]
    unusable: frozenset[PeerId]
    choice: Choice


def make_roster(view: View) -> Roster:
    """Return the peers of this node.

    Two nodes may publish one key: whoever copies another's key cannot use it, so both statements are joined.
    That gives the copyist nothing, and takes nothing from the owner of the key.
    """
    links = {link.peer: link for link in view.links}
    parsed = {peer: parse_entry(value) for peer, value in sorted(view.entries.items()) if peer != view.me}
    usable = {peer: entry for peer, entry in parsed.items() if entry is not None and entry.key != view.own_key}
    choice = _choose(usable, links, view)
    picture = _Picture(view, choice, links, _holdings(view), _inside(view, choice))
    peers: dict[bytes, SetPeer] = {}
    for peer, entry in usable.items():
        found = _peer(peer, entry, picture)
        peers[entry.key] = _join(peers[entry.key], found) if entry.key in peers else found
    return Roster(peers, frozenset(parsed.keys() - usable.keys()), choice)


@dataclass(frozen=True, slots=True)
class _Picture:
    """The view with what is worked out of it once for all peers: there may be a thousand."""

    view: View
    choice: Choice
    links: Mapping[PeerId, PeerLink]
    leases: Mapping[PeerId, list[IPv4Address]]
    inside: Prefixes[bool]


def _holdings(view: View) -> dict[PeerId, list[IPv4Address]]:
    holdings: dict[PeerId, list[IPv4Address]] = {}
    for address, holder in sorted(view.leases.items()):
        holdings.setdefault(holder, []).append(address)
    return holdings


def _inside(view: View, choice: Choice) -> Prefixes[bool]:
    """Return what is reached through the tunnel: the nodes, and the networks behind them."""
    nodes = (view.pool,) if view.ula is None else (view.pool, view.ula)
    return Prefixes(dict.fromkeys((*choice.prefixes, *nodes), True))


def _choose(entries: Mapping[PeerId, Entry], links: Mapping[PeerId, PeerLink], view: View) -> Choice:
    """Choose who carries the networks behind nodes. Nobody advertises any, as a rule: then this costs nothing."""
    router = view.leases.get(view.policy.router) if view.policy.router is not None else None
    offering = {peer: entry.routes for peer, entry in entries.items() if entry.routes or peer == router}
    share = max(1, min(MAX_ROUTES, MAX_OFFERED // max(1, len(offering))))
    offers = [
        Offer(peer, tuple(_prefixes(routes[:share])), _is_alive(links.get(peer)), is_router=peer == router)
        for peer, routes in offering.items()
    ]
    return choose(offers, _rules(view)) if offers else Choice()


def _rules(view: View) -> Rules:
    barred: list[tuple[Prefix, str]] = [(view.pool, "the VPN's own addresses")]
    barred += [(view.ula, "the VPN's own addresses")] if view.ula is not None else []
    barred += [(route, "which this node offers itself") for route in view.policy.offered if route.prefixlen]
    barred += [(each.prefix, f"a network of this machine ({each.interface})") for each in view.networks]
    # What a route leads to already is reached through the tunnel: gossip found its way in there.
    routed = Prefixes(dict.fromkeys(view.routed, True))
    underlay = {}
    for link in view.links:
        address = _parse(link.address.host.partition("%")[0]) if link.address is not None else None
        if address is not None and not routed.find(address.packed):
            underlay[address] = link.peer
    return Rules(view.policy.accepted, tuple(barred), underlay)


def _is_alive(link: PeerLink | None) -> bool:
    return link.alive if link is not None else True


def parse_entry(value: Mapping[str, Any]) -> Entry | None:
    """Check a topic entry; None when it is not one. Unknown fields are left for later versions."""
    key, port, hosts = value.get("key"), value.get("port"), value.get("hosts", ())
    if not isinstance(key, bytes) or len(key) != KEY_SIZE:
        return None
    if port is not None and (type(port) is not int or not 0 < port < 65536):
        return None
    if not isinstance(hosts, list | tuple) or not all(isinstance(host, str) for host in hosts):
        return None
    routes = value.get("routes", ())
    if not isinstance(routes, list | tuple) or not all(isinstance(route, str) for route in routes):
        return None
    return Entry(
        key,
        port,
        tuple(hosts[:MAX_HOSTS]),
        records=value.get("records") == RECORDS,
        has_ipv6=value.get("ipv6") is True,
        routes=tuple(routes[:MAX_ROUTES]),
        seen=tuple(_seen(value.get("seen", ()))),
    )


def _seen(texts: Any) -> Iterator[Address]:
    """Yield the endpoints from which others see a node's datagrams come; what is none is left out."""
    for text in texts[:MAX_SEEN] if isinstance(texts, list | tuple) else ():
        with suppress(ValueError):
            if isinstance(text, str):
                yield Address.parse(text)


def _prefixes(texts: Iterable[str]) -> Iterator[Prefix]:
    for text in texts:
        with suppress(ValueError):
            yield ip_network(text)


def _peer(peer: PeerId, entry: Entry, picture: _Picture) -> SetPeer:
    link, choice, leases = picture.links.get(peer), picture.choice, picture.leases.get(peer, ())
    return SetPeer(
        key=entry.key,
        endpoints=tuple(str(endpoint) for endpoint in _endpoints(entry, link, picture)),
        addresses=tuple(str(address) for lease in leases for address in _addresses(lease, entry, picture.view)),
        eager=_is_alive(link),
        routes=tuple(map(str, choice.routes.get(peer, ()))),
        standby=tuple(map(str, choice.standby.get(peer, ()))),
        records=entry.records,
    )


def _addresses(lease: IPv4Address, entry: Entry, view: View) -> Iterator[IPv4Address | IPv6Address]:
    yield lease
    if entry.has_ipv6 and view.ula is not None:
        yield ula_address(view.ula, lease)


def _endpoints(entry: Entry, link: PeerLink | None, picture: _Picture) -> Iterable[Address]:
    """Return where the peer may be reached: where gossip reaches it, its LAN addresses, where others see it."""
    if entry.port is None:
        return ()
    hosts = [host for host in entry.hosts if _is_foreign(host, picture)]
    if link is not None and link.address is not None and _is_underlay(link.address.host, picture.inside):
        hosts.insert(0, link.address.host)
    places = [Address(host, entry.port) for host in dict.fromkeys(hosts)][: MAX_CANDIDATES - len(entry.seen)]
    return [*places, *(place for place in entry.seen if _is_foreign(place.host, picture) and place not in places)]


def _is_foreign(host: str, picture: _Picture) -> bool:
    """Say whether a published address can mean that peer and not this machine (every docker0 is
    172.17.0.1)."""
    address = _parse(host)
    if address is None or host in picture.view.own_hosts or not _is_underlay(host, picture.inside):
        return False
    return not (address.is_loopback or address.is_link_local)


def _is_underlay(host: str, inside: Prefixes[bool]) -> bool:
    """Say whether this is a unicast IP address outside the VPN: inside, the tunnel would run through
    itself."""
    address = _parse(host)
    if address is None or address.is_multicast or address.is_unspecified:
        return False
    return not inside.find(address.packed)


def _parse(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _join(one: SetPeer, other: SetPeer) -> SetPeer:
    return SetPeer(
        key=one.key,
        endpoints=tuple(dict.fromkeys(one.endpoints + other.endpoints))[:MAX_CANDIDATES],
        addresses=tuple(dict.fromkeys(one.addresses + other.addresses)),
        eager=one.eager or other.eager,
        routes=tuple(dict.fromkeys(one.routes + other.routes)),
        standby=tuple(dict.fromkeys(one.standby + other.standby)),
        records=one.records and other.records,
    )
