"""A change of addresses is noticed at once; without the kernel's word there are the regular looks."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest
from kairos_net_vpn import moves
from kairos_net_vpn.moves import AddressChanges


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The other end of the socket by which the kernel speaks."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    monkeypatch.setattr(moves, "SETTLE", 0.0)
    changes = AddressChanges()
    changes.close()
    changes._socket = ours
    with ours, theirs:
        yield changes, theirs


async def test_a_word_of_the_kernel_ends_the_wait_at_once(kernel: Any) -> None:
    changes, theirs = kernel
    waiting = asyncio.create_task(changes.wait(60.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    theirs.send(b"an address has gone")
    theirs.send(b"an address has come")
    async with asyncio.timeout(5):
        await waiting


async def test_several_words_are_one_change(kernel: Any) -> None:
    changes, theirs = kernel
    for _ in range(5):
        theirs.send(b"something")
    await changes.wait(60.0)
    began = time.monotonic()
    await changes.wait(0.01)
    assert time.monotonic() - began >= 0.01, "a word of the first change was left over"


async def test_without_a_word_the_wait_ends_in_time(kernel: Any) -> None:
    changes, _ = kernel
    async with asyncio.timeout(5):
        await changes.wait(0.001)


async def test_where_the_kernel_may_not_be_asked_the_wait_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Any:
        raise PermissionError("netlink")

    monkeypatch.setattr(moves.socket, "socket", refuse)
    changes = AddressChanges()
    async with asyncio.timeout(5):
        await changes.wait(0.001)
    changes.close()
