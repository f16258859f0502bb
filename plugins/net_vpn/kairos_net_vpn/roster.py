"""From what the ledger says to what the data plane needs. Pure: the same statements give the same peers.

A node's topic entry: `{"key": X25519 public key, "port": UDP port, "address": "10.1.0.7", "hosts":
["192.0.2.7"], "records": 1}`. It is signed by its author, so the key is bound to the identity. Which inner
addresses a peer owns is not taken from it, but from the leases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Any

from kairos_core import Address, PeerId, PeerLink
from kairos_net_vpn.messages import SetPeer
from kairos_net_vpn.peer import MAX_CANDIDATES

TOPIC = "vpn"
RECORDS = 1
"""The version of records.py that a node opens; without the field it is a stock WireGuard peer."""
KEY_SIZE = 32
MAX_HOSTS = 8
"""Addresses taken from one entry; more would let one entry make us knock at many doors."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A peer's topic entry, checked. Without a port it is away, but its key holds."""

    key: bytes
    port: int | None
    hosts: tuple[str, ...]
    records: bool = False


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


@dataclass(frozen=True, slots=True)
class Roster:
    """The peers by public key, and whose entries could not be used."""

    peers: Mapping[bytes, SetPeer]
    unusable: frozenset[PeerId]


def make_roster(view: View) -> Roster:
    """Return the peers of this node.

    Two nodes may publish one key: whoever copies another's key cannot use it, so both statements are joined.
    That gives the copyist nothing, and takes nothing from the owner of the key.
    """
    links = {link.peer: link for link in view.links}
    peers: dict[bytes, SetPeer] = {}
    unusable = set()
    for peer, value in sorted(view.entries.items()):
        entry = parse_entry(value) if peer != view.me else None
        if peer == view.me:
            continue
        if entry is None or entry.key == view.own_key:
            unusable.add(peer)
            continue
        found = _peer(peer, entry, links.get(peer), view)
        peers[entry.key] = _join(peers[entry.key], found) if entry.key in peers else found
    return Roster(peers, frozenset(unusable))


def parse_entry(value: Mapping[str, Any]) -> Entry | None:
    """Check a topic entry; None when it is not one. Unknown fields are left for later versions."""
    key, port, hosts = value.get("key"), value.get("port"), value.get("hosts", ())
    if not isinstance(key, bytes) or len(key) != KEY_SIZE:
        return None
    if port is not None and (type(port) is not int or not 0 < port < 65536):
        return None
    if not isinstance(hosts, list | tuple) or not all(isinstance(host, str) for host in hosts):
        return None
    return Entry(key, port, tuple(hosts[:MAX_HOSTS]), value.get("records") == RECORDS)


def _peer(peer: PeerId, entry: Entry, link: PeerLink | None, view: View) -> SetPeer:
    addresses = tuple(sorted(str(address) for address, holder in view.leases.items() if holder == peer))
    return SetPeer(
        key=entry.key,
        endpoints=tuple(str(endpoint) for endpoint in _endpoints(entry, link, view)),
        addresses=addresses,
        eager=link.alive if link is not None else True,
        records=entry.records,
    )


def _endpoints(entry: Entry, link: PeerLink | None, view: View) -> Iterable[Address]:
    """Return where the peer may be reached: first where gossip reaches it, then its own LAN addresses."""
    if entry.port is None:
        return ()
    hosts = [host for host in entry.hosts if _is_foreign(host, view)]
    if link is not None and link.address is not None and _is_underlay(link.address.host, view.pool):
        hosts.insert(0, link.address.host)
    return [Address(host, entry.port) for host in dict.fromkeys(hosts)][:MAX_CANDIDATES]


def _is_foreign(host: str, view: View) -> bool:
    """Say whether a published address can mean that peer and not this machine (every docker0 is
    172.17.0.1)."""
    address = _parse(host)
    if address is None or host in view.own_hosts or not _is_underlay(host, view.pool):
        return False
    return not (address.is_loopback or address.is_link_local)


def _is_underlay(host: str, pool: IPv4Network) -> bool:
    """Say whether this is a unicast IP address outside the VPN: inside, the tunnel would run through
    itself."""
    address = _parse(host)
    return not (address is None or address.is_multicast or address.is_unspecified or address in pool)


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
        records=one.records and other.records,
    )
