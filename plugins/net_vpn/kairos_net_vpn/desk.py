"""Where operators' wishes arrive: admits guests and lets them go, and says how the VPN does.

`kairos vpn` reaches it through the agent's API: `Network.state` and `Network.order`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from typing import Any

from kairos_core import NetworkError, NetworkHost, PeerId
from kairos_net_vpn import guests
from kairos_net_vpn.guests import MAX_GUESTS, NAME, Guest
from kairos_net_vpn.roster import TOPIC as NODES
from kairos_net_vpn.roster import Entry, parse_entry
from kairos_net_vpn.ula import ula_address

_WISHES = frozenset({"name", "key", "address", "endpoint", "routes", "keepalive"})


@dataclass(frozen=True, slots=True)
class Here:
    """What is true of this node's end while it is attached."""

    interface: str
    address: IPv4Address
    pool: IPv4Network
    port: int
    mtu: int
    secret: bytes
    ula: IPv6Network | None = None  # where everybody has an IPv6 address too; None: this node goes without

    def __repr__(self) -> str:
        return f"Here({self.interface}, {self.address})"


class Desk:
    """Obeys orders, each an object with one key: `peer_add`, `peer_show` or `peer_remove`."""

    def __init__(self, host: NetworkHost, here: Here) -> None:
        self._host, self._here = host, here

    async def order(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out an order and answer. Raises NetworkError."""
        match dict(order):
            case {"peer_add": {"name": str(name)} as wish, **others} if not others:
                return await self._add(name, wish)
            case {"peer_show": {"name": str(name), **more}, **others} if not (others or more):
                return self._answer(name, self._find(name))
            case {"peer_remove": {"name": str(name), **more}, **others} if not (others or more):
                return self._remove(name)
        raise NetworkError(
            'the VPN takes {"peer_add": {"name", "key", …}}, {"peer_show": {"name"}}, {"peer_remove": …}'
        )

    def own(self) -> dict[str, Guest]:
        """Return the guests that this node has admitted, by name."""
        try:
            return guests.parse_guests(self._host.published(guests.TOPIC)[self._host.identity.peer_id])
        except (KeyError, ValueError):
            return {}

    async def _add(self, name: str, wish: Mapping[str, Any]) -> dict[str, Any]:
        own = self.own()
        self._check(name, wish, own)
        wanted = self._wanted(wish.get("address")) or (own[name].address if name in own else None)
        guest = self._parse(wish, wanted or self._here.address)
        self._check_key(name, guest.key)
        address = await self._host.lease(self._here.pool, wanted, guest=name)
        guest = Guest(guest.key, address, guest.endpoint, guest.routes, guest.keepalive)
        try:
            self._publish({**self.own(), name: guest})
        except NetworkError:
            if name not in own:
                self._host.release(self._here.pool, name)
            raise
        return self._answer(name, guest)

    def _check(self, name: str, wish: Mapping[str, Any], own: Mapping[str, Guest]) -> None:
        if not NAME.fullmatch(name):
            raise NetworkError(f"the name {name!r} must have up to 63 lower-case letters, digits, dots and hyphens")
        unknown = sorted(wish.keys() - _WISHES)
        if unknown:
            raise NetworkError(f"a peer has no {unknown[0]!r}; it has: {', '.join(sorted(_WISHES))}")
        if name not in own and len(own) >= MAX_GUESTS:
            raise NetworkError(f"this node has admitted {MAX_GUESTS} peers already. Admit the next on another node")

    def _wanted(self, text: object) -> IPv4Address | None:
        if text is None:
            return None
        pool = self._here.pool
        try:
            address = IPv4Address(str(text))
        except ValueError:
            raise NetworkError(f"the address {text!r} cannot be read; write it like {self._here.address}") from None
        if address not in pool or address in (pool.network_address, pool.broadcast_address):
            raise NetworkError(f"the address {address} is not one that a peer of {pool} can have")
        return address

    def _parse(self, wish: Mapping[str, Any], address: IPv4Address) -> Guest:
        try:
            key = base64.b64decode(str(wish.get("key", "")), validate=True)
        except binascii.Error:
            key = b""
        try:
            return guests.parse_guest({**wish, "key": key, "address": str(address)})
        except ValueError as error:
            raise NetworkError(str(error)) from None

    def _check_key(self, name: str, key: bytes) -> None:
        """Refuse a key that belongs to a node or to another guest."""
        for peer, entry in self._host.published(NODES).items():
            if entry.get("key") == key:
                raise NetworkError(f"the public key belongs to the node {peer}: make one for the new peer")
        for peer, entry in self._host.published(guests.TOPIC).items():
            for other, found in _readable(entry).items():
                if found.key == key and (peer, other) != (self._host.identity.peer_id, name):
                    raise NetworkError(f"the public key is that of the peer {other!r}, which {peer} has admitted")

    def _remove(self, name: str) -> dict[str, Any]:
        self._find(name)
        self._publish({other: guest for other, guest in self.own().items() if other != name})
        self._host.release(self._here.pool, name)
        return {"name": name}

    def _publish(self, own: Mapping[str, Guest]) -> None:
        value = {"peers": {name: guest.document for name, guest in own.items()}} if own else None
        self._host.publish(guests.TOPIC, value)

    def _find(self, name: str) -> Guest:
        own = self.own()
        if name in own:
            return own[name]
        for peer, entry in self._host.published(guests.TOPIC).items():
            if name in _readable(entry):
                raise NetworkError(f"the peer {name!r} was admitted by {peer}: only there can this be done")
        raise NetworkError(f"no peer is called {name!r}; admitted here: {', '.join(sorted(own)) or 'none'}")

    def _answer(self, name: str, guest: Guest) -> dict[str, Any]:
        """Return what the peer needs to know; its pre-shared key too, so this is for the operator alone."""
        ula = self._here.ula
        return {
            "name": name,
            "key": base64.b64encode(guest.key).decode(),
            "addresses": [
                f"{guest.address}/{self._here.pool.prefixlen}",
                *([f"{ula_address(ula, guest.address)}/{ula.prefixlen}"] if ula is not None else []),
            ],
            "mtu": self._here.mtu,
            "keepalive": guest.keepalive,
            "psk": base64.b64encode(guests.guest_psk(self._here.secret, guest.key)).decode(),
            "nodes": self._nodes(),
        }

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the nodes as a guest needs them, by address: this one, and each that says where it is reached."""
        names, found = names_of(self._host), []
        for address, holder in sorted(self._host.leases(self._here.pool).items()):
            said = self._host.published(NODES).get(holder, {})
            entry = parse_entry(said)
            hosts = [host for host in entry.hosts if _is_address(host)] if entry is not None else []
            if entry is not None and entry.port and hosts and said.get("address") == str(address):
                host = f"[{hosts[0]}]" if ":" in hosts[0] else hosts[0]
                node = {"name": names.get(holder, holder.short), "key": base64.b64encode(entry.key).decode()}
                found.append({**node, "endpoint": f"{host}:{entry.port}", "allowed": self._allowed(address, entry)})
        return found

    def _allowed(self, address: IPv4Address, entry: Entry) -> list[str]:
        ula = self._here.ula if entry.has_ipv6 else None
        return [f"{address}/32", *([f"{ula_address(ula, address)}/128"] if ula is not None else [])]


def _is_address(host: str) -> bool:
    """Say whether a host is an IP address and no more: it goes into a file that wg-quick obeys."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def names_of(host: NetworkHost) -> dict[PeerId, str]:
    """Return what the nodes call themselves."""
    return {peer: str(entry.get("name", "")) for peer, entry in host.published("peers").items()}


def _readable(entry: Mapping[str, Any]) -> dict[str, Guest]:
    try:
        return guests.parse_guests(entry)
    except ValueError:
        return {}
