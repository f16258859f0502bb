"""Whether this machine forwards packets between its interfaces: a switch of the kernel for each family.

It is off on a fresh machine, and whoever switches it on makes a router of the machine: that is the operator's to say.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from kairos_net_vpn.prefixes import Prefix

_SWITCHES = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}

_log = logging.getLogger(__name__)


def prepare(routes: Iterable[Prefix], *, switch_on: bool) -> None:
    """See that packets for these networks can pass; say what to do where they cannot. Never switched off again:
    others may count on it by then."""
    for version in sorted({route.version for route in routes}):
        if is_on(version):
            continue
        name = _SWITCHES[version].replace("/", ".")
        if not switch_on:
            _log.warning(
                "p2p.vpn.routes offers networks behind this node, but the kernel does not forward (%s is 0). "
                "Set p2p.vpn.forward: true, or run: sysctl -w %s=1",
                *(name, name),
            )
        elif not _switch_on(version):
            _log.warning("%s cannot be set here. Set it from outside: sysctl -w %s=1", name, name)


def is_on(version: int) -> bool:
    """Say whether the kernel forwards IPv4 or IPv6 packets. A kernel without the family does not."""
    try:
        with open(f"/proc/sys/{_SWITCHES[version]}") as switch:
            return switch.read().strip() != "0"
    except OSError:
        return False


def _switch_on(version: int) -> bool:
    try:
        with open(f"/proc/sys/{_SWITCHES[version]}", "w") as switch:
            switch.write("1")
    except OSError:  # a container sees /proc/sys read-only
        return False
    _log.info("%s is 1 now, as p2p.vpn.forward says", _SWITCHES[version].replace("/", "."))
    return True
