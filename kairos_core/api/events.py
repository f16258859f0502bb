"""The event stream: each change of the ledger as a server-sent event (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.types import Receive, Scope, Send

from kairos_core.api.document import format_json

Change = tuple[str, str, Any]

KEEPALIVE = 15.0
"""Seconds without a change after which a comment is sent. Raising it makes a dead connection show later."""

SLOW_READER = 20.0
"""Seconds in which a reader must take an event. Raising it lets a reader that stopped hold more memory here."""

_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8")]


class EventStream:
    """An ASGI response that sends changes until the reader leaves, lags, or the server stops.

    Every change made after the response's head was sent is in the stream.
    """

    def __init__(self, changes: AsyncIterator[Change], stopping: asyncio.Event, bucket: str | None = None) -> None:
        self._changes, self._stopping, self._bucket = changes, stopping, bucket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        tasks: list[asyncio.Task[Change | None]] = [
            asyncio.create_task(_left(receive)),
            asyncio.create_task(_set(self._stopping)),
        ]
        try:
            # Subscribed before the head goes out: a generator subscribes only when first asked.
            change = asyncio.create_task(self._next())
            tasks.append(change)
            await asyncio.sleep(0)
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            if scope["method"] != "HEAD":
                await self._send_all(tasks, send)
            await _send(send, b"", more=False)
        except TimeoutError:
            return  # the reader lags: the server closes a response that was not finished
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await _close(self._changes)

    async def _send_all(self, tasks: list[asyncio.Task[Change | None]], send: Send) -> None:
        await _send(send, b": changes from now on\n\n")
        while True:
            done, _ = await asyncio.wait(tasks, timeout=KEEPALIVE, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0] in done or tasks[1] in done:
                return
            if not done:
                await _send(send, b": still here\n\n")
                continue
            change = tasks[2].result()
            if change is None:
                return
            tasks[2] = asyncio.create_task(self._next())
            await _send(send, encode_event(change))

    async def _next(self) -> Change | None:
        async for change in self._changes:
            if self._bucket in (None, change[0]):
                return change
        return None


def encode_event(change: Change) -> bytes:
    """Encode a change as one event. JSON in ASCII has no line break, so a value cannot forge a second event."""
    bucket, key, value = change
    return f"event: change\ndata: {format_json({'bucket': bucket, 'key': key, 'value': value})}\n\n".encode()


async def _send(send: Send, body: bytes, more: bool = True) -> None:
    async with asyncio.timeout(SLOW_READER):
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _close(changes: AsyncIterator[Change]) -> None:
    close = getattr(changes, "aclose", None)
    if close is not None:
        await close()
