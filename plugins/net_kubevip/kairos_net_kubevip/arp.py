"""Ask whether anybody uses an IPv4 address: ARP probes (RFC 5227, section 2.1)."""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import IPv4Address

from kairos_core import NetworkError

PROBES = 3
"""Packets sent (RFC 5227: PROBE_NUM). Each may be lost; more cost `INTERVAL` each."""

INTERVAL = 0.3
"""Seconds to listen after each probe.

RFC 5227 waits 1 to 2 s each and 2 s more, since it guards every address of a LAN that boots at once. Hosts
answer within milliseconds, and kube-vip takes the address much later; a longer time delays the cluster.
"""

_ETH_P_ARP = 0x0806
_ARPHRD_ETHER = 1
_ARP = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826: types, lengths, operation; sender and target, MAC and IP
_BROADCAST = b"\xff" * 6


async def owner_of(address: IPv4Address, interface: str) -> str | None:
    """Return the MAC of the host that uses an address on this interface's LAN, None when nobody answers.

    Takes about a second when nobody does. On an interface without ARP nobody is asked. Probes of others for
    the same address are no use of it: all masters of a cluster ask at once when they start together. Raises
    NetworkError when the interface is down or raw sockets are forbidden.
    """
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as wire:
            wire.bind((interface, _ETH_P_ARP))
            wire.setblocking(False)
            _, _, _, hardware, mac = wire.getsockname()
            if hardware != _ARPHRD_ETHER:
                return None
            for _ in range(PROBES):
                wire.send(probe(mac, address))
                try:
                    async with asyncio.timeout(INTERVAL):
                        return await _answer(wire, mac, address)
                except TimeoutError:
                    continue
    except OSError as error:
        raise NetworkError(
            f"cannot ask on {interface!r} whether kubevip.eip {address} is free: {error}. "
            "Is the interface up, and does this run as root (CAP_NET_RAW)?"
        ) from error
    return None


async def _answer(wire: socket.socket, mac: bytes, address: IPv4Address) -> str:
    loop = asyncio.get_running_loop()
    while True:
        owner = user_of(await loop.sock_recv(wire, 128), address)
        if owner is not None and owner != mac:
            return owner.hex(":")


def probe(mac: bytes, address: IPv4Address) -> bytes:
    """Return the Ethernet frame that asks for an address without claiming it: its sender IP is 0.0.0.0."""
    body = _ARP.pack(1, 0x0800, 6, 4, 1, mac, bytes(4), bytes(6), address.packed)
    return _BROADCAST + mac + _ETH_P_ARP.to_bytes(2) + body


def user_of(frame: bytes, address: IPv4Address) -> bytes | None:
    """Return the MAC that says it uses the address in this frame, None for all other frames. Never raises."""
    if len(frame) < 14 + _ARP.size or frame[12:14] != _ETH_P_ARP.to_bytes(2):
        return None
    hardware, protocol, mac_size, ip_size, _, sender_mac, sender_ip, *_ = _ARP.unpack_from(frame, 14)
    if (hardware, protocol, mac_size, ip_size) != (1, 0x0800, 6, 4) or sender_ip != address.packed:
        return None
    return bytes(sender_mac)
