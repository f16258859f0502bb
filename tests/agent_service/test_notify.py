"""Telling systemd, over the socket that it gives."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kairos_core.agent_service.notify import VARIABLE, Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """What systemd has: the socket's name in the environment, and its end of it."""
    name = (
        str(tmp_path / "notify") if request.param == "path" else f"@kairos-test-{tmp_path.name}-{tmp_path.parent.name}"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name.replace("@", "\0"))
        receiver.settimeout(5)
        yield name, receiver


def test_it_says_ready_with_a_sentence_and_stopping(manager: tuple[str, socket.socket]) -> None:
    name, receiver = manager
    notifier = Notifier({VARIABLE: name})
    notifier.ready("node 12D3\nREADY=0")
    assert receiver.recv(4096) == b"READY=1\nSTATUS=node 12D3 READY=0"
    notifier.stopping()
    assert receiver.recv(4096) == b"STOPPING=1"


def test_the_programs_that_we_start_do_not_inherit_it() -> None:
    environment = {VARIABLE: "/run/systemd/notify", "PATH": "/bin"}
    Notifier(environment)
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nowhere/at/all", "/" + 200 * "x"])
def test_where_nobody_listens_nothing_happens(address: str) -> None:
    notifier = Notifier({VARIABLE: address} if address else {})
    notifier.ready("node")
    notifier.stopping()
