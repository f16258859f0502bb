"""Guests: stock WireGuard peers (a phone, a router) that a member has admitted. Pure, as the roster is.

A member's entry of the topic `vpn-peers`: `{"peers": {NAME: {"key": 32 bytes, "address": "10.1.0.9", "endpoint":
"192.0.2.9:51820", "routes": ["192.168.7.0/24"], "keepalive": 25}}}`; only key and address are needed. The entry is
signed by the member and lives as long as the member keeps it; the address is one that the member leases. So every
node knows who let a guest in, and a guest is gone as soon as its entry or its lease is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kairos_core import PeerId, PeerLink
from kairos_net_vpn.messages import SetPeer
from kairos_net_vpn.roster import KEY_SIZE, View

TOPIC = "vpn-peers"
MAX_GUESTS = 64
"""Guests of one member: what fits an entry of the ledger (16 KiB). Raising it lets one member fill our tables."""
MAX_ROUTES = 8
MAX_KEEPALIVE = 3600
NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Guest:
    """One guest; without an endpoint it knocks first. `routes` are networks behind it."""

    key: bytes
    address: IPv4Address
    endpoint: str | None = None
    routes: tuple[str, ...] = ()
    keepalive: int = 0

    @property
    def document(self) -> dict[str, Any]:
        """What the ledger has of it."""
        said: dict[str, Any] = {"key": self.key, "address": str(self.address)}
        said |= {"endpoint": self.endpoint} if self.endpoint else {}
        said |= {"routes": list(self.routes)} if self.routes else {}
        return said | ({"keepalive": self.keepalive} if self.keepalive else {})


@dataclass(frozen=True, slots=True)
class Admission:
    """A guest that is admitted here: its name, and the member who let it in."""

    name: str
    by: PeerId
    guest: Guest


def parse_guest(value: object) -> Guest:
    """Check what an entry or an operator says of a guest. Raises ValueError with a sentence for the operator."""
    if not isinstance(value, Mapping):
        raise ValueError("a peer is described by an object")
    key, keepalive = value.get("key"), value.get("keepalive", 0)
    if not isinstance(key, bytes) or len(key) != KEY_SIZE:
        raise ValueError("a public key has 32 bytes, written as 44 characters of base64; see: wg pubkey")
    if type(keepalive) is not int or not 0 <= keepalive <= MAX_KEEPALIVE:
        raise ValueError(f"keepalive {keepalive!r} is not 0 to {MAX_KEEPALIVE} seconds")
    address = _parse(IPv4Address, value.get("address"), "address", "like 10.1.0.9")
    return Guest(key, address, _endpoint(value.get("endpoint")), _routes(value.get("routes", ())), keepalive)


def parse_guests(value: Mapping[str, Any]) -> dict[str, Guest]:
    """Read a member's entry. Raises ValueError when any of it is not of the form: then none of it counts."""
    peers = value.get("peers")
    if not isinstance(peers, Mapping) or len(peers) > MAX_GUESTS:
        raise ValueError(f"an entry has an object of up to {MAX_GUESTS} peers")
    if not all(isinstance(name, str) and NAME.fullmatch(name) for name in peers):
        raise ValueError("a name has lower-case letters, digits, dots and hyphens")
    return {name: parse_guest(each) for name, each in peers.items()}


def admit(
    entries: Mapping[PeerId, Mapping[str, Any]], leases: Mapping[IPv4Address, PeerId], nodes: Collection[object]
) -> tuple[dict[bytes, Admission], frozenset[PeerId]]:
    """Return the guests by public key, and whose entries are no entries.

    A guest counts while its member leases its address. A key of a node (`nodes`) is nobody else's to bring in, and of
    two members that admit one key, the lower peer id counts: so no member can take a peer away from another.
    """
    admitted: dict[bytes, Admission] = {}
    unusable = set()
    for member, value in sorted(entries.items()):
        try:
            guests = parse_guests(value)
        except ValueError:
            unusable.add(member)
            continue
        for name, guest in guests.items():
            if guest.key not in nodes and leases.get(guest.address) == member:
                admitted.setdefault(guest.key, Admission(name, member, guest))
    return admitted, frozenset(unusable)


def introduce(view: View, admitted: Mapping[bytes, Admission]) -> View:
    """Return a view in which each guest stands beside the nodes, under a peer id that is its key."""
    entries, leases, links = dict(view.entries), dict(view.leases), list(view.links)
    for key, admission in admitted.items():
        peer, guest = PeerId(key), admission.guest
        host, _, port = (guest.endpoint or "").rpartition(":")
        reached = {"port": int(port), "hosts": [host.strip("[]")]} if guest.endpoint else {}
        entries[peer] = {"key": key, "routes": list(guest.routes), "ipv6": True, **reached}
        leases[guest.address] = peer
        links.append(PeerLink(peer, None, alive=True))
    return replace(view, entries=entries, leases=leases, links=tuple(links))


def furnish(peers: Mapping[bytes, SetPeer], admitted: Mapping[bytes, Admission], secret: bytes) -> dict[bytes, SetPeer]:
    """Return the roster's peers, each guest with its own pre-shared key.

    We knock at a guest only when there is a packet for it, or when it shall be kept alive: a phone is often away.
    """
    furnished = dict(peers)
    for key, admission in admitted.items():
        if key in furnished:
            keepalive = admission.guest.keepalive if admission.guest.endpoint else 0
            furnished[key] = replace(
                furnished[key], eager=keepalive > 0, psk=guest_psk(secret, key), keepalive=float(keepalive)
            )
    return furnished


def guest_psk(secret: bytes, key: bytes) -> bytes:
    """Derive the pre-shared key of a guest from the network's: a lost phone then says nothing of the network."""
    return HKDF(SHA256(), length=32, salt=None, info=b"kairos vpn peer " + key).derive(secret)


def _endpoint(value: object) -> str | None:
    if value is None:
        return None
    host, _, port = str(value).rpartition(":")
    address = _parse(
        ip_address, host.strip("[]"), "endpoint", "as ADDRESS:PORT with an IP address, like 192.0.2.9:51820"
    )
    if not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"endpoint {value!r} needs a port from 1 to 65535, like 192.0.2.9:51820")
    return f"[{address}]:{int(port)}" if address.version == 6 else f"{address}:{int(port)}"


def _routes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_ROUTES:
        raise ValueError(f"routes are a list of up to {MAX_ROUTES} networks")
    return tuple(str(_parse(ip_network, route, "route", "as a network, like 192.168.7.0/24")) for route in value)


def _parse(kind: Any, value: object, what: str, form: str) -> Any:
    try:
        return kind(value if isinstance(value, str) else repr(value))
    except ValueError:
        raise ValueError(f"{what} {value!r} cannot be read; write it {form}") from None
