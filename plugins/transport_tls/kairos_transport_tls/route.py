"""The TCP connection under a stream that we open: resolve, and try the addresses."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import TypeAlias

from kairos_core import Address
from kairos_transport_tls.sockets import parse_host, to_kernel

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

MAX_ADDRESSES = 4
"""Addresses of a host name that are tried, each for its share of the time. More leaves each too little."""


async def connected(address: Address, seconds: float) -> tuple[socket.socket, SocketAddress]:
    """Connect, and return the socket and where it leads. Raises OSError, which TimeoutError is a kind of."""
    targets = await _resolve(address)
    failure = OSError("the name has no address")
    for target in targets:
        try:
            async with asyncio.timeout(seconds / len(targets)):
                return await _connect(target), target
        except OSError as error:
            failure = error
    raise failure


async def _connect(target: SocketAddress) -> socket.socket:
    connection = socket.socket(socket.AF_INET6 if len(target) == 4 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, target)
    except BaseException:
        connection.close()
        raise
    return connection


async def _resolve(address: Address) -> list[SocketAddress]:
    ip = parse_host(address.host)
    if ip is not None:
        return [to_kernel(ip, address.port)]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    # The resolver's order, but the families by turns: where IPv6 leads nowhere, IPv4 comes next.
    seen: Counter[int] = Counter()
    ranked: list[tuple[int, SocketAddress]] = []
    for family, _, _, _, target in found:
        seen[family] += 1
        ranked.append((seen[family], target))  # type: ignore[arg-type]  # typeshed: also odd families
    return [target for _, target in sorted(ranked, key=lambda pair: pair[0])][:MAX_ADDRESSES]
