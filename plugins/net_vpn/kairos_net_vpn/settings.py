"""What the operator may set under `p2p.vpn`."""

from __future__ import annotations

from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_network
from typing import Annotated

from kairos_core import After, Before, Settings, Shown, setting
from kairos_net_vpn.prefixes import NEVER_ROUTED, Prefix
from kairos_net_vpn.spec import OVERHEAD
from kairos_net_vpn.subnets import EVERYTHING, MAX_ROUTES, SHORTEST

MAX_MTU = 1500 - OVERHEAD
"""1420: an inner packet then fits an Ethernet frame over IPv4 and IPv6. Larger ones would be fragmented
wherever one link on the way has the usual 1500, which halves the throughput."""
DEFAULT_SUBNET = IPv4Network("10.1.0.0/24")
MIN_MTU = 1280
"""The least that IPv6 asks of a link; on a narrower underlay the outer datagrams are fragmented instead."""


def _as_text(value: object) -> object:
    """Take YAML's scalars for environment values as the reference does: `DHCP: false` means the text
    `false`."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


_Text = Annotated[str, Before(_as_text)]


# What runs before the types gives text: of a file's values (strict JSON) the types take nothing else.


def _is_network(subnet: object) -> str:
    try:
        return str(IPv4Network(str(subnet)))
    except ValueError as error:
        raise ValueError(f"{error}; write the network itself, like 10.1.0.0/24") from None


def _has_room(subnet: IPv4Network) -> IPv4Network:
    if not 8 <= subnet.prefixlen <= 30:
        raise ValueError(f"{subnet} must have a prefix of /8 to /30, for example 10.1.0.0/24")
    return subnet


def _as_prefixes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list of networks, like [192.168.5.0/24]")
    return tuple(dict.fromkeys(map(_as_prefix, value)))


def _as_prefix(text: object) -> str:
    try:
        return str(ip_network(str(text)))
    except ValueError as error:
        raise ValueError(f"{error}; write the network itself, like 192.168.5.0/24") from None


def _as_policy(value: object) -> tuple[str, ...]:
    words: dict[str, tuple[str, ...]] = {"none": (), "all": tuple(map(str, EVERYTHING))}
    if isinstance(value, str):
        if value not in words:
            raise ValueError(f"{value!r} is not a policy: write none, all, or a list of networks")
        return words[value]
    return _as_prefixes(value)


def _are_routes(routes: tuple[Prefix, ...]) -> tuple[Prefix, ...]:
    if len(routes) > MAX_ROUTES:
        raise ValueError(f"{len(routes)} routes are too many: the other nodes take {MAX_ROUTES}; join neighbours")
    for route in routes:
        if 0 < route.prefixlen < SHORTEST[route.version]:
            raise ValueError(f"{route} is shorter than /{SHORTEST[route.version]}; to route everything, write /0")
        barred = [never for never in NEVER_ROUTED if never.version == route.version and never.overlaps(route)]
        if barred and route.prefixlen:
            raise ValueError(f"{route} overlaps {barred[0]}, which is never routed; leave it out")
    return routes


_NETWORKS = {"type": "array", "items": {"type": "string"}}
_Routes = Annotated[tuple[Prefix, ...], Before(_as_prefixes), After(_are_routes), Shown(_NETWORKS)]
_Policy = Annotated[tuple[Prefix, ...], Before(_as_policy), Shown({"anyOf": [{"enum": ["none", "all"]}, _NETWORKS]})]
_Subnet = Annotated[IPv4Network, Before(_is_network), After(_has_room)]


class VpnSettings(Settings):
    """The section `p2p.vpn`."""

    create: bool = True
    """Whether to bring the VPN up at all."""
    use: bool = True
    """Whether Kubernetes uses it; otherwise it is there beside the cluster."""
    env: dict[str, _Text] = setting(default_factory=dict)
    """The reference's environment. `ADDRESS` (10.1.0.5/24) is the address wanted, and with `DHCP` "false" the
    only one that will do. `ROUTER` (10.1.0.1) is the node that gets packets which nobody else has a route for.
    Other names are accepted and have no effect here."""
    subnet: _Subnet | None = None
    """The pool of addresses; the same on every node. Unset: the network of env.ADDRESS, else 10.1.0.0/24."""
    ipv6: bool = True
    """Whether nodes have an IPv6 address too, which follows from the token and the lease."""
    routes: _Routes = ()
    """Networks behind this node that it offers to the others; 0.0.0.0/0 and ::/0 only to who names it ROUTER."""
    accept_routes: _Policy = ()
    """Which networks behind other nodes are reached through them: none, all, or those within these."""
    forward: bool = False
    """Whether to switch the kernel's forwarding on (`net.ipv4.ip_forward`), which `routes` need."""
    interface: str = setting(default="kairos0", pattern=r"^[^\s/:%]{1,15}$")
    """The name of the TUN device; Linux allows 15 characters."""
    port: int = setting(default=0, ge=0, le=65535)
    """The UDP port of the data plane; 0 takes a free one and keeps it over restarts where possible."""
    mtu: int | None = setting(default=None, ge=MIN_MTU, le=MAX_MTU)
    """Bytes in an inner packet. Unset: the smallest MTU of this machine's LAN interfaces less 80, 1280 to
    1420."""

    def __post_init__(self) -> None:
        address = self.wanted
        if address is None:
            if not self.leases:
                raise ValueError('env.DHCP is "false" but env.ADDRESS is not set; set it, like 10.1.0.5/24')
        elif self.subnet is not None and address not in self.subnet:
            raise ValueError(f"env.ADDRESS {address} is not in subnet {self.subnet}; change one of them")
        elif address in (self.pool.network_address, self.pool.broadcast_address):
            raise ValueError(f"env.ADDRESS {address} is the first or last address of {self.pool}; take another")
        if self.router is not None and self.router not in self.pool:
            raise ValueError(f"env.ROUTER {self.router} is not in {self.pool}; name a node by its VPN address")
        for route in self.routes:
            if route.prefixlen and route.version == 4 and route.overlaps(self.pool):
                raise ValueError(f"routes: {route} overlaps {self.pool}, the VPN's own addresses; leave it out")

    @property
    def leases(self) -> bool:
        """Whether any free address will do (the reference's DHCP)."""
        return self.env.get("DHCP", "true").strip().lower() not in ("false", "0", "f")

    @cached_property
    def _static(self) -> IPv4Interface | None:
        text = self.env.get("ADDRESS", "").strip()
        if not text:
            return None
        try:
            return IPv4Interface(text if "/" in text else f"{text}/{(self.subnet or DEFAULT_SUBNET).prefixlen}")
        except ValueError:
            raise ValueError(f"env.ADDRESS {text!r} is not an address; write it like 10.1.0.5/24") from None

    @property
    def wanted(self) -> IPv4Address | None:
        """The address that the operator asked for."""
        return self._static.ip if self._static else None

    @cached_property
    def router(self) -> IPv4Address | None:
        """The VPN address of the node that gets packets without another way."""
        text = self.env.get("ROUTER", "").strip().partition("/")[0]
        try:
            return IPv4Address(text) if text else None
        except ValueError:
            raise ValueError(f"env.ROUTER {text!r} is not an address; write it like 10.1.0.1") from None

    @property
    def pool(self) -> IPv4Network:
        """Where addresses are leased from: `subnet`, or the network that env.ADDRESS is written with."""
        return self.subnet or (self._static.network if self._static else DEFAULT_SUBNET)


def inner_mtu(underlay: int, setting: int | None = None) -> int:
    """Return the MTU of the tunnel on an underlay of this MTU; the operator's setting goes first."""
    return setting if setting is not None else min(MAX_MTU, max(MIN_MTU, underlay - OVERHEAD))
