"""`kairos start` as a service manager sees it: one process that says when it is ready, and when it stops."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kairos_core.protocol.token import format_token, new_token

TOKEN = format_token(new_token(lambda alphabet: alphabet[2]))
ALONE = f"p2p: {{network_token: {TOKEN}, role: none, vpn: {{create: false}}, plugins: {{discovery: []}}}}\n"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(60)
        yield receiver


def test_it_says_that_it_is_ready_once_its_api_answers_and_that_it_stops(
    tmp_path: Path, manager: socket.socket
) -> None:
    (tmp_path / "kairos.yaml").write_text(ALONE)
    options = (f"--config={tmp_path}/kairos.yaml", f"--state={tmp_path}/state", f"--run-dir={tmp_path}/run")
    agent = subprocess.Popen(
        [sys.executable, "-m", "kairos_core.cli", "start", *options],
        env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")},
        stderr=subprocess.PIPE,
        text=True,
    )
    with agent:
        try:
            ready = manager.recv(4096).decode()
            assert ready.startswith("READY=1\nSTATUS=node 12D3KooW")
            assert TOKEN not in ready
            with socket.socket(socket.AF_UNIX) as api:
                api.connect(str(tmp_path / "run/api.sock"))
            agent.terminate()
            assert manager.recv(4096) == b"STOPPING=1"
            _, said = agent.communicate(timeout=60)
        finally:
            agent.kill()
    assert agent.returncode == 0, said
