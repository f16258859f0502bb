import asyncio
import json
import socket
import time
from typing import Any

import pytest

from kairos_core.api import events
from kairos_core.api.client import ApiClient
from kairos_core.api.events import EventStream, encode_event
from kairos_core.testing.control import FakeControl
from kairos_core.testing.served import ServedNode


def test_each_change_after_the_head_is_in_the_stream_in_order(agent: ServedNode) -> None:
    changes = ApiClient(agent.unix, {}).changes()
    _await_watchers(agent, 0)
    first = _next_after(agent, changes, b'{"a":"x\\n\\ndata: forged"}')
    assert first == {"bucket": "b", "key": "k", "value": {"a": "x\n\ndata: forged"}}
    agent.ask("PUT", "/api/v1/ledger/b/k2", b"2")
    agent.ask("DELETE", "/api/v1/ledger/b/k2")
    assert next(changes)["value"] == 2
    assert next(changes) == {"bucket": "b", "key": "k2", "value": None}
    changes.close()
    _await_watchers(agent, 0)


def test_a_stream_of_one_bucket_has_only_its_changes(agent: ServedNode) -> None:
    changes = ApiClient(agent.tcp, {}).changes("a/ b")
    reader = _start(changes)
    _await_watchers(agent, 1)
    agent.ask("PUT", "/api/v1/ledger/other/k", b"1")
    agent.ask("PUT", "/api/v1/ledger/a%2F%20b/k", b"2")
    assert reader()["value"] == 2
    changes.close()


def test_a_quiet_stream_shows_signs_of_life(agent: ServedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEPALIVE", 0.05)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(agent.listen.socket))
        client.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while received.count(b": still here\n\n") < 2:
            received += client.recv(4096)
        assert b"content-type: text/event-stream; charset=utf-8" in received


def test_a_reader_that_stops_reading_is_cut_off(agent: ServedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SLOW_READER", 0.2)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(agent.listen.socket))
        client.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        _await_watchers(agent, 1)
        body = json.dumps("x" * 60000).encode()
        for number in range(40):
            assert agent.ask("PUT", f"/api/v1/ledger/b/{number}", body).status == 200
        _await_watchers(agent, 0)


async def test_the_end_of_the_changes_is_the_end_of_the_stream() -> None:
    async def none() -> Any:
        return
        yield

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await EventStream(none(), asyncio.Event())({"type": "http", "method": "GET"}, _never, send)
    assert [message["type"] for message in sent] == ["http.response.start", *["http.response.body"] * 2]
    assert sent[-1]["more_body"] is False


async def test_a_reader_that_leaves_ends_the_watch() -> None:
    control = FakeControl()

    async def leave() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    await EventStream(control.watch(), asyncio.Event())({"type": "http", "method": "GET"}, leave, send)
    assert control.watchers == 0


def test_an_event_is_one_block_of_two_lines() -> None:
    event = encode_event(("b", "k", "a\n\nb\r\x85\u2028"))
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 3
    assert b"\r" not in event


async def _never() -> Any:
    await asyncio.Event().wait()


def _await_watchers(agent: ServedNode, count: int) -> None:
    until = time.monotonic() + 10
    while agent.control.watchers != count:
        assert time.monotonic() < until, f"{agent.control.watchers} watchers, expected {count}"
        time.sleep(0.01)  # the server is in a thread of its own


def _start(changes: Any) -> Any:
    """Ask for the next change in a thread; return a function that waits for it."""
    import threading

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(next(changes)))
    thread.start()

    def result() -> Any:
        thread.join(10)
        return found[0]

    return result


def _next_after(agent: ServedNode, changes: Any, body: bytes) -> Any:
    reader = _start(changes)
    _await_watchers(agent, 1)
    agent.ask("PUT", "/api/v1/ledger/b/k", body)
    return reader()
