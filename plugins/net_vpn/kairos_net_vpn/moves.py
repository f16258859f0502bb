"""Notices at once that this machine's addresses have changed. Source: rtnetlink(7), linux/rtnetlink.h."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

_GROUPS = 0x10 | 0x100  # RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

SETTLE = 0.1
"""Seconds after a change until it is acted upon: a new lease takes one address off and puts another on. Also what
bounds the work on a machine whose containers come and go all the time."""


class AddressChanges:
    """The kernel's word on addresses. What it says is not read, only that it says something."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        with suppress(OSError):  # a sandbox without netlink: then there are only the regular looks
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
            self._socket.bind((0, _GROUPS))

    async def wait(self, seconds: float) -> None:
        """Return when an address has changed, or after so many seconds."""
        if self._socket is None:
            await asyncio.sleep(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._heard(self._socket)
        except TimeoutError:
            return
        await asyncio.sleep(SETTLE)
        with suppress(OSError):
            while self._socket.recv(1 << 16):
                pass

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    async def _heard(self, source: socket.socket) -> None:
        with suppress(OSError):  # ENOBUFS: so much has changed that the kernel could not keep it
            await asyncio.get_running_loop().sock_recv(source, 1 << 16)
