"""Socket addresses of the underlay: text from the ledger to what the socket takes, and back.

The socket is IPv6 and takes IPv4 too (as `::ffff:10.0.0.1`), or IPv4 only where the kernel has no IPv6.
"""

from __future__ import annotations

import ipaddress
import socket

from kairos_net_vpn.peer import MAX_CANDIDATES, Endpoint

_MAPPED = "::ffff:"


class Endpoints:
    """Reads and writes endpoints for one socket family."""

    def __init__(self, family: int) -> None:
        self._is_ipv6 = family == socket.AF_INET6

    def parse_all(self, texts: tuple[str, ...]) -> tuple[Endpoint, ...]:
        """Return the endpoints that this socket can reach, in order; the others are left out."""
        parsed = (self.parse(text) for text in texts)
        return tuple(endpoint for endpoint in parsed if endpoint is not None)[:MAX_CANDIDATES]

    def parse(self, text: str) -> Endpoint | None:
        """Read `10.0.0.1:7373` or `[fe80::1%eth0]:7373`; None when this socket cannot reach it."""
        host, _, port = text.rpartition(":")
        host, _, zone = host.strip("[]").partition("%")
        try:
            address = ipaddress.ip_address(host)
            scope = socket.if_nametoindex(zone) if zone else 0
            number = int(port)
        except (ValueError, OSError):
            return None
        if not 0 < number < 65536:
            return None
        if address.version == 6:
            return (str(address), number, 0, scope) if self._is_ipv6 else None
        return (_MAPPED + str(address), number, 0, 0) if self._is_ipv6 else (str(address), number)

    def native(self, endpoint: Endpoint) -> tuple[int, Endpoint]:
        """Return the family of a socket that can be connected to an endpoint, and what to connect it to."""
        host = _unmapped(endpoint)
        return (socket.AF_INET6, endpoint) if ":" in host else (socket.AF_INET, (host, endpoint[1]))

    def of(self, source: Endpoint) -> Endpoint:
        """Return as an endpoint what a socket of any family gave for a source."""
        is_short = self._is_ipv6 and len(source) == 2
        return (_MAPPED + source[0], source[1], 0, 0) if is_short else source

    def format(self, endpoint: Endpoint) -> str:
        """Write an endpoint for people and for `parse`."""
        host = _unmapped(endpoint)
        return f"[{host}]:{endpoint[1]}" if ":" in host else f"{host}:{endpoint[1]}"

    def host_of(self, endpoint: Endpoint) -> bytes:
        """Name the host of an endpoint: an IPv4 address, or the network of 64 bits that one IPv6 host owns."""
        return self.address_of(endpoint)[:8]

    def address_of(self, endpoint: Endpoint) -> bytes:
        """Return the packed address of an endpoint. Asked for each datagram of a flood, so it takes 0.5 us."""
        host = _unmapped(endpoint)
        if ":" in host:
            return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        return socket.inet_aton(host)

    def header_size(self, endpoint: Endpoint) -> int:
        """Return the bytes of IP and UDP headers around a datagram to an endpoint."""
        return 48 if ":" in _unmapped(endpoint) else 28


def _unmapped(endpoint: Endpoint) -> str:
    host = str(endpoint[0])
    return host.removeprefix(_MAPPED)
