"""How an agent finds and takes over the data plane of an agent before it; the other side is in `control`.

The door is a Unix socket in the node's state directory, `vpn-<interface>.sock`, for its user only. A data plane with
this agent's configuration is taken over with its device, its socket and all its sessions; any other ends first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kairos_net_vpn import messages
from kairos_net_vpn.messages import Claim, Configure, Leave, Ready

PATIENCE = 3.0
"""Seconds that a data plane has to answer at its door. It answers between two bursts of packets, in a millisecond."""
_DESCRIPTORS = 4
_PREFIX, _SUFFIX = "vpn-", ".sock"

_log = logging.getLogger(__name__)


class Adopted:
    """A process that another agent started, known by a descriptor of it (pidfd_open(2)): no other can be meant."""

    def __init__(self, descriptor: int) -> None:
        self.returncode: int | None = None
        """Never known: only a parent hears it."""
        self.pid = _pid_of(descriptor)
        self._descriptor = descriptor
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._has_ended)

    async def wait(self) -> int | None:
        """Wait until the process has ended."""
        await self._ended.wait()
        return self.returncode

    def kill(self) -> None:
        """End it at once; nothing happens when it has ended."""
        if not self._ended.is_set():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def _has_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._ended.set()


@dataclass(frozen=True, slots=True)
class Heritage:
    """A data plane that was taken over: the connection to it, and what it held. All is the new agent's to close."""

    control: socket.socket
    tun: int
    udp: socket.socket
    door: socket.socket
    process: int
    code: str


async def claim(directory: Path, configure: Configure) -> Heritage | None:
    """Take over the data plane that an agent before us left; None when there is none, or it was another.

    On return a data plane of another configuration has let go of its device.
    """
    heritage = await asyncio.to_thread(_claim, directory, configure)
    if heritage is not None:
        _log.info("the VPN's data plane of the agent before goes on")
    return heritage


async def dismiss_others(directory: Path, keep: str = "") -> None:
    """End data planes that agents before us left, but for the one of an interface."""
    await asyncio.to_thread(_dismiss_others, directory, _name(keep))


def open_door(directory: Path, interface: str) -> socket.socket | None:
    """Make the socket at which the next agent finds the data plane; None where that cannot be.

    Without it the data plane ends with its agent, however that ends.
    """
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.close(os.pidfd_open(os.getpid()))  # Linux 5.3
        with _reachable(directory / _name(interface)) as path:
            with suppress(FileNotFoundError):
                os.unlink(path)
            os.fchmod(door.fileno(), 0o600)  # what bind gives the name, on Linux: at no moment is it wider
            door.bind(path)
        door.listen(4)
    except OSError as error:
        door.close()
        _log.warning("the VPN stops whenever the agent does: no socket in %s: %s", directory, error.strerror)
        return None
    return door


def remove_door(directory: Path, interface: str) -> None:
    """Remove the socket's name; nothing happens when it is not there."""
    with suppress(OSError):
        (directory / _name(interface)).unlink()


def _name(interface: str) -> str:
    return f"{_PREFIX}{interface}{_SUFFIX}"


def _claim(directory: Path, configure: Configure) -> Heritage | None:
    connection = _knock(directory / _name(configure.interface))
    if connection is None:
        return None
    try:
        connection.sendall(messages.encode(Claim(configure.digest())))
        answer, descriptors, flags, _ = socket.recv_fds(connection, 4096, _DESCRIPTORS)
    except OSError as error:
        _log.warning("the VPN's data plane of the agent before does not answer: %s", error)
        connection.close()
        return None
    heritage = None if flags & socket.MSG_CTRUNC else _read(connection, answer, descriptors)
    if heritage is None:
        connection.close()
        for descriptor in descriptors:
            os.close(descriptor)
    return heritage


def _read(connection: socket.socket, answer: bytes, descriptors: list[int]) -> Heritage | None:
    if len(descriptors) != _DESCRIPTORS:
        return None
    try:
        ready = messages.decode(answer)
    except ValueError:
        return None
    if not isinstance(ready, Ready):
        return None
    tun, udp, door, process = descriptors
    return Heritage(connection, tun, socket.socket(fileno=udp), socket.socket(fileno=door), process, ready.code)


def _dismiss_others(directory: Path, keep: str) -> None:
    for path in directory.glob(f"{_PREFIX}*{_SUFFIX}"):
        if path.name != keep:
            _dismiss(path)


def _dismiss(path: Path) -> None:
    connection = _knock(path)
    if connection is not None:
        with connection, suppress(OSError):
            connection.sendall(messages.encode(Leave()))
            connection.recv(1)  # the end: its device is gone
    with suppress(OSError):
        path.unlink()


def _knock(path: Path) -> socket.socket | None:
    """Return a connection to the data plane behind a door; None when nobody is there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    try:
        with _reachable(path) as short:
            connection.connect(short)
    except OSError:
        connection.close()
        return None
    return connection


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """Give a path that fits a socket address of 108 bytes, however long the directory's is."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _pid_of(descriptor: int) -> int | None:
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    numbers = [int(line.split()[1]) for line in lines if line.startswith("Pid:")]
    return numbers[0] if numbers and numbers[0] > 0 else None
