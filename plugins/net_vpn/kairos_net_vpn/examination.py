"""What the VPN needs of this machine, looked at without changing anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kairos_core import Finding, NetworkError, Port, Verdict, examine_ports
from kairos_net_vpn.lan import Lan
from kairos_net_vpn.settings import MIN_MTU, VpnSettings
from kairos_net_vpn.spec import OVERHEAD

_CAP_NET_ADMIN = 12  # linux/capability.h
_OURS = frozenset(("kairos", "kairos_core.cli", "kairos_net_vpn.dataplane"))
"""The data plane outlives its agent, and the next one takes it over."""


def examine(settings: VpnSettings, lan: Lan, root: Path = Path("/")) -> Iterator[Finding]:
    """Yield what is as it should be, and what is not; nothing when there is to be no VPN."""
    if settings.create:
        yield _device(root / "dev/net/tun")
        yield _right(root / "proc/self/status")
        yield _mtu(lan)
        yield _port(settings.port, root)


def _device(clone: Path) -> Finding:
    try:
        is_device = stat.S_ISCHR(clone.stat().st_mode)
    except OSError:
        is_device = False
    if not is_device:
        message = "/dev/net/tun is not there, so no tunnel can be made"
        remedy = "modprobe tun (in a container: give it the device), or set p2p.vpn.create: false"
        return Finding("tunnel device", Verdict.WRONG, message, remedy)
    if not os.access(clone, os.R_OK | os.W_OK):
        return Finding("tunnel device", Verdict.WRONG, "/dev/net/tun cannot be opened for writing", "run as root")
    return Finding("tunnel device", Verdict.OK, "/dev/net/tun is there")


def _right(status: Path) -> Finding:
    try:
        lines = dict(line.partition(":")[::2] for line in status.read_text().splitlines())
        holds = bool(int(lines["CapEff"], 16) >> _CAP_NET_ADMIN & 1)
    except (OSError, KeyError, ValueError):
        holds = False
    if not holds:
        remedy = "run as root (in a container: add the capability NET_ADMIN)"
        return Finding("CAP_NET_ADMIN", Verdict.WRONG, "this process may not configure networks", remedy)
    return Finding("CAP_NET_ADMIN", Verdict.OK, "networks can be configured")


def _mtu(lan: Lan) -> Finding:
    needed = MIN_MTU + OVERHEAD
    if lan.mtu < needed:
        message = f"the MTU of the LAN is {lan.mtu}: below {needed}, packets of the VPN are sent in fragments"
        return Finding(
            "MTU", Verdict.WRONG, message, f"ip link set dev INTERFACE mtu {needed} or more, as the LAN allows"
        )
    return Finding("MTU", Verdict.OK, f"the LAN carries {lan.mtu} bytes")


def _port(number: int, root: Path) -> Finding:
    remedy = "set another p2p.vpn.port, or 0 for any free one"
    return examine_ports("VPN port", [Port("udp", number, "the VPN", remedy)] if number else [], _OURS, root)


def overlap(error: NetworkError) -> Finding:
    """Say that the VPN's addresses are in use around this machine."""
    return Finding("VPN addresses", Verdict.WRONG, str(error), "set another p2p.vpn.subnet on all nodes")
