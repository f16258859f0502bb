"""The server's life: sockets, signals, and a stop that leaves nothing behind."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kairos_core.api.listener import unix_listener
from kairos_core.api.server import Listen, serving
from kairos_core.errors import ControlError
from kairos_core.testing.control import FakeControl


def _listen(directory: Path, tcp: bool = True) -> Listen:
    run = directory / "run"
    return Listen(run / "api.sock", ("127.0.0.1", 0) if tcp else None, run / "api.token")


async def test_socket_and_token_are_for_the_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with serving(FakeControl(), _listen(tmp_path)) as served:
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "run").iterdir()}
            assert modes == {"api.sock": 0o600, "api.token": 0o600}
            assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
            assert served.endpoints == (f"unix://{tmp_path}/run/api.sock", f"http://127.0.0.1:{served.port}")
    finally:
        os.umask(before)
    assert list((tmp_path / "run").iterdir()) == []


async def test_without_tcp_there_is_no_token_and_no_port(tmp_path: Path) -> None:
    async with serving(FakeControl(), _listen(tmp_path, tcp=False)) as served:
        assert served.port is None
        assert not (tmp_path / "run" / "api.token").exists()


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "run" / "api.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with serving(FakeControl(), _listen(tmp_path)):
        with pytest.raises(ControlError, match="another agent answers"):
            unix_listener(path)
        assert path.exists()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("mine")
    with pytest.raises(ControlError, match="not a socket"):
        async with serving(FakeControl(), Listen(path)):
            pass
    assert path.read_text() == "mine"


async def test_a_port_in_use_is_an_error_that_leaves_no_socket(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listen = Listen(tmp_path / "api.sock", ("127.0.0.1", port), tmp_path / "token")
        with pytest.raises(ControlError, match=f"127.0.0.1:{port}: Address already in use"):
            async with serving(FakeControl(), listen):
                pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", [Path("/proc/kairos/api.sock"), Path("/tmp/" + "x" * 200)])
def test_a_path_where_no_socket_can_be_is_an_error_with_the_path(path: Path) -> None:
    with pytest.raises(ControlError, match="cannot listen on /"):
        unix_listener(path)


async def test_nowhere_to_listen_is_an_error() -> None:
    with pytest.raises(ControlError, match="nowhere to listen"):
        async with serving(FakeControl(), Listen(None)):
            pass


async def test_a_socket_of_another_agent_is_not_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "run" / "api.sock"
    async with serving(FakeControl(), _listen(tmp_path)):
        path.unlink()
        other = unix_listener(path)
    assert path.exists()
    other.close()


async def test_the_agent_keeps_its_signal_handlers(tmp_path: Path) -> None:
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, seen.set)
    try:
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        async with serving(FakeControl(), _listen(tmp_path)):
            assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(seen.wait(), 5)
            reader, writer = await asyncio.open_unix_connection(tmp_path / "run" / "api.sock")
            writer.write(b"GET /api/summary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def test_a_stop_ends_streams_and_idle_connections_and_leaves_no_task(tmp_path: Path) -> None:
    control, path = FakeControl(), tmp_path / "run" / "api.sock"
    before = asyncio.all_tasks()
    async with serving(control, _listen(tmp_path)):
        idle, idle_writer = await asyncio.open_unix_connection(path)
        stream, stream_writer = await asyncio.open_unix_connection(path)
        stream_writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        await stream.readuntil(b": changes from now on")
        assert control.watchers == 1
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 1.5
    assert (await stream.read()).endswith(b"0\r\n\r\n")  # ended in order, not cut off
    assert await idle.read() == b""
    assert control.watchers == 0
    assert asyncio.all_tasks() == before
    for writer in (idle_writer, stream_writer):
        writer.close()


async def test_an_error_inside_the_context_stops_the_server_and_comes_out(tmp_path: Path) -> None:
    with pytest.raises(LookupError):
        async with serving(FakeControl(), _listen(tmp_path)):
            raise LookupError
    assert list((tmp_path / "run").iterdir()) == []


ACTIVATED = """
import asyncio, os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
from kairos_core.api.server import Listen, serving
from kairos_core.testing.control import FakeControl

async def main():
    async with serving(FakeControl(), Listen(None, activation=True)) as served:
        assert "LISTEN_FDS" not in os.environ and not os.get_inheritable(3)
        print(*served.endpoints, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.mark.system
def test_a_socket_from_systemd_is_served_and_left_in_place(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        with subprocess.Popen(
            [sys.executable, "-c", ACTIVATED, str(sock.fileno())],
            pass_fds=[sock.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == f"unix://{path}\n"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b"PUT /api/ledger/b/k/v HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert client.recv(20).startswith(b"HTTP/1.1 200")
            process.communicate(timeout=10)
            assert process.returncode == 0
    assert path.exists()
