"""Offers the network `vpn`; apart from the package itself, which the data plane imports too."""

from __future__ import annotations

from kairos_core import Network, Register, hookimpl
from kairos_net_vpn.network import Vpn
from kairos_net_vpn.settings import VpnSettings


@hookimpl
def register_network(register: Register[Network]) -> None:
    register("vpn", Vpn, settings=VpnSettings, section="p2p.vpn")
