"""IPv6 inside the tunnel: every network has a prefix of its own, every lease an address in it. Pure.

    fd | 40 bits of the token | 0000 | 32 zero bits | IPv4 address of the lease       (RFC 4193, section 3.1)

Why the lease and not the peer id: docs/decisions/ipv6-follows-the-lease.md.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network

PURPOSE = "vpn ula"
"""What the token's secret is derived for. Publishing 40 bits of it says nothing of the token."""


def ula_subnet(secret: bytes) -> IPv6Network:
    """Return the /64 of a network. The other 65535 of its /48 are the operator's to route behind nodes."""
    return IPv6Network((b"\xfd" + secret[:5] + bytes(10), 64))


def ula_address(subnet: IPv6Network, lease: IPv4Address) -> IPv6Address:
    """Return the IPv6 address that belongs to a lease."""
    return subnet.network_address + int(lease)
