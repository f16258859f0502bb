"""What the operator may set under `p2p.vpn`."""

from __future__ import annotations

from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated

from kairos_core import After, Before, Settings, setting
from kairos_net_vpn.spec import OVERHEAD

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


def _is_network(subnet: object) -> IPv4Network:
    try:
        return IPv4Network(str(subnet))
    except ValueError as error:
        raise ValueError(f"{error}; write the network itself, like 10.1.0.0/24") from None


def _has_room(subnet: IPv4Network) -> IPv4Network:
    if not 8 <= subnet.prefixlen <= 30:
        raise ValueError(f"{subnet} must have a prefix of /8 to /30, for example 10.1.0.0/24")
    return subnet


_Subnet = Annotated[IPv4Network, Before(_is_network), After(_has_room)]


class VpnSettings(Settings):
    """The section `p2p.vpn`."""

    create: bool = True
    """Whether to bring the VPN up at all."""
    use: bool = True
    """Whether Kubernetes uses it; otherwise it is there beside the cluster."""
    env: dict[str, _Text] = setting(default_factory=dict)
    """The reference's environment. `ADDRESS` (10.1.0.5/24) is the address wanted, and with `DHCP` "false" the
    only one that will do. Other names are accepted and have no effect here."""
    subnet: _Subnet | None = None
    """The pool of addresses; the same on every node. Unset: the network of env.ADDRESS, else 10.1.0.0/24."""
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

    @property
    def pool(self) -> IPv4Network:
        """Where addresses are leased from: `subnet`, or the network that env.ADDRESS is written with."""
        return self.subnet or (self._static.network if self._static else DEFAULT_SUBNET)


def inner_mtu(underlay: int, setting: int | None = None) -> int:
    """Return the MTU of the tunnel on an underlay of this MTU; the operator's setting goes first."""
    return setting if setting is not None else min(MAX_MTU, max(MIN_MTU, underlay - OVERHEAD))
