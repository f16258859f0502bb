"""Sockets: one port number for TCP and UDP on all listening addresses, and addresses in the kernel's form."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from kairos_core import Address, TransportError
from kairos_transport_tls.settings import DEFAULT_PORT, TlsSettings

_BACKLOG = 128
"""Connections the kernel holds until we accept them. More would wait longer than a peer's patience."""

_ATTEMPTS = 32
"""Ports to try until one is free for TCP and UDP on all addresses."""

_IPV6_IS_OFF = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


@dataclass
class Sockets:
    """What the transport listens with: `tcp` are listening already, none blocks."""

    port: int = 0
    tcp: list[socket.socket] = field(default_factory=list)
    udp: list[socket.socket] = field(default_factory=list)

    def close(self) -> None:
        """Close all of them."""
        for each in (*self.tcp, *self.udp):
            each.close()


def bind(settings: TlsSettings) -> Sockets:
    """Bind TCP and UDP to one port on every listening address. Raises TransportError."""
    first = DEFAULT_PORT if settings.port is None else settings.port
    candidates = [first] if settings.port else [first] + [0] * _ATTEMPTS
    for port in candidates:
        try:
            return _bind_all(settings.listen, port)
        except OSError as error:
            failure = _explain(error, settings, port)
            if error.errno != errno.EADDRINUSE:
                break
    raise failure


def _explain(error: OSError, settings: TlsSettings, port: int) -> TransportError:
    where, why = f"port {port} (TCP and UDP) of {', '.join(settings.listen)}", error.strerror or error
    if error.errno == errno.EADDRNOTAVAIL:
        advice = "List only addresses that this machine has in p2p.transport.listen"
    elif error.errno == errno.EACCES:
        advice = "Run as root, or set p2p.transport.port to 1024 or more"
    else:
        advice = f"See who uses it: ss -tulpn 'sport = :{port}'. Or leave p2p.transport.port unset"
    return TransportError(f"cannot listen on {where}: {why}. {advice}")


def _bind_all(listen: tuple[str, ...], port: int) -> Sockets:
    sockets = Sockets(port)
    # `::` takes IPv4 too, as v4-mapped addresses, unless IPv4 has a socket of its own.
    dual = not any(isinstance(ip_address(host), IPv4Address) for host in listen)
    try:
        for host in listen:
            _bind_one(sockets, host, dual)
    except OSError:
        sockets.close()
        raise
    return sockets


def _bind_one(sockets: Sockets, host: str, dual: bool) -> None:
    try:
        _bind_pair(sockets, host, dual)
    except OSError as error:
        if ip_address(host) != IPv6Address("::") or error.errno not in _IPV6_IS_OFF:
            raise
        if dual:
            _bind_pair(sockets, "0.0.0.0", dual)  # noqa: S104 - every address is what `::` asks for


def _bind_pair(sockets: Sockets, host: str, dual: bool) -> None:
    with _opened(host, socket.SOCK_STREAM, dual) as tcp:
        # Else a restart fails for a minute (TIME_WAIT). UDP does not wait, and there two would share.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind(to_kernel(ip_address(host), sockets.port))
        tcp.listen(_BACKLOG)
        sockets.port = tcp.getsockname()[1]
        with _opened(host, socket.SOCK_DGRAM, dual) as udp:
            udp.bind(to_kernel(ip_address(host), sockets.port))
            sockets.tcp.append(tcp)
            sockets.udp.append(udp)


@contextmanager
def _opened(host: str, kind: socket.SocketKind, dual: bool) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, kind)
    try:
        opened.setblocking(False)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        yield opened
    except BaseException:
        opened.close()
        raise


@lru_cache(maxsize=4096)
def parse_host(host: str) -> IPv4Address | IPv6Address | None:
    """Read an IP address; None for a host name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def to_kernel(ip: IPv4Address | IPv6Address, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return the socket address. Raises OSError when the scope names no interface of this machine."""
    if isinstance(ip, IPv4Address):
        return str(ip), port
    scope = ip.scope_id
    index = 0 if scope is None else int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
    return str(ip).partition("%")[0], port, 0, index


def from_kernel(name: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    """Return the address of a socket name: v4-mapped as IPv4, link-local with interface (`fe80::1%eth0`)."""
    host, port = name[0].partition("%")[0], name[1]
    if host.startswith("::ffff:") and "." in host:
        return Address(host.removeprefix("::ffff:"), port)
    if len(name) == 4 and name[3]:
        return Address(f"{host}%{_interface(name[3])}", port)
    return Address(host, port)


def _interface(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:  # gone since the packet came in
        return str(index)
