"""Runs what blocks for long beside the event loop, so that it can be stopped, and never holds up the agent's end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """Run work in a thread of its own; return or raise what it does.

    The event is set when nobody waits any more: the work should end then. Why not `asyncio.to_thread`: an agent
    that ends waits for its threads, and a server that is silent may hold one up for a minute.
    """
    loop, stopped = asyncio.get_running_loop(), threading.Event()
    outcome: asyncio.Future[T] = loop.create_future()

    def tell(settle: Callable[[Any], None], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if outcome.done() else settle(value))

    def run() -> None:
        try:
            result = work(stopped)
        except BaseException as error:
            tell(outcome.set_exception, error)
        else:
            tell(outcome.set_result, result)

    threading.Thread(target=run, name="k3s-install", daemon=True).start()
    try:
        return await outcome
    finally:
        stopped.set()
