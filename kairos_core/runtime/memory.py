"""Memory that is free again goes back to the system.

A start takes more than a node at rest needs: modules are read, dozens of TLS handshakes run at once, the whole ledger
comes in. glibc keeps what is freed then, in pieces between what is still in use.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc

FIRST = 15.0
"""Seconds after the start: the network has been joined by then."""

AGAIN = 600.0
"""Seconds between further times. Each costs a few milliseconds; raising it lets a burst's memory lie for longer."""


async def keep_small() -> None:
    """Give free memory back now and then, until cancelled."""
    pause = FIRST
    while True:
        await asyncio.sleep(pause)
        give_back()
        pause = AGAIN


def give_back() -> None:
    """Return free memory to the system, where the C library can (malloc_trim(3); musl does so by itself)."""
    gc.collect()  # what is left in cycles holds pieces too
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
