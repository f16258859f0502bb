"""A TCP connection from one virtual machine to another, every byte of which is checked where it arrives."""

from __future__ import annotations

import asyncio
import time
from itertools import count

from kairos_core.testing.lab import LabError
from kairos_core.testing.vm.machine import VirtualMachine

BLOCK = 4096
"""Bytes of a block; no two blocks are alike, so whatever is lost, doubled or out of order does not pass."""

LASTS = 600.0
"""Seconds for a stream, its beginning and its end included."""

GOES_ON = 120.0
"""Seconds in which something has to arrive: TCP waits longer and longer after each try that is lost."""

_PROGRAM = """
import hashlib, os, pathlib, socket, sys, time
role, address, port, blocks, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
enough, progress = pathlib.Path(f"/run/enough-{port}"), pathlib.Path(f"/run/progress-{port}")

def block(number):
    return hashlib.shake_128(b"%d" % number).digest(4096)

def send():
    for attempt in range(60):
        try:
            connection = socket.create_connection((address, port), 30)
            break
        except OSError:
            time.sleep(1)
    connection.settimeout(120)
    sent = 0
    while sent < blocks and not enough.exists():
        connection.sendall(block(sent))
        sent += 1
        time.sleep(pause)
    connection.shutdown(socket.SHUT_WR)
    return connection.recv(100).decode(), sent

def receive():
    with socket.create_server((address, port)) as server:
        server.settimeout(120)
        connection, _ = server.accept()
    connection.settimeout(120)
    stream, received = connection.makefile("rb"), 0
    while piece := stream.read(4096):
        if piece != block(received):
            sys.exit(f"block {received} is not what was sent")
        received += 1
        progress.with_suffix(".new").write_text(str(received))
        os.replace(progress.with_suffix(".new"), progress)
    connection.sendall(b"%d" % received)
    return received

print(*send() if role == "send" else (receive(),))
""".replace("4096", str(BLOCK))

_ports = count(5001)


class Stream:
    """Begins at once to send `blocks` to an address of the receiver, each `pause` seconds after the one before.

    Make it in a running event loop, and wait for its end with `whole` or `end`.
    """

    def __init__(
        self, sender: VirtualMachine, receiver: VirtualMachine, address: str, *, blocks: int, pause: float = 0.0
    ) -> None:
        self._sender, self._receiver = sender, receiver
        self._port = next(_ports)
        self._words = (address, str(self._port), str(blocks), str(pause))
        both = (self._run(receiver, "receive"), self._run(sender, "send"))
        self._ends = [asyncio.create_task(end) for end in both]

    def __repr__(self) -> str:
        return f"Stream({self._sender.name} - {self._receiver.name})"

    async def _run(self, machine: VirtualMachine, role: str) -> list[str]:
        return (await machine.run("python3", "-c", _PROGRAM, role, *self._words, timeout=LASTS)).stdout.split()

    async def arrived(self) -> int:
        """Return how many blocks have arrived."""
        read = await self._receiver.run("cat", f"/run/progress-{self._port}", check=False)
        return int(read.stdout or 0)

    async def goes_on(self, blocks: int = 1) -> None:
        """Wait until so many more blocks have arrived. Raises LabError when they do not, or the stream has ended."""
        wanted, deadline = await self.arrived() + blocks, time.monotonic() + GOES_ON
        while (arrived := await self.arrived()) < wanted:
            self._require_running()
            if time.monotonic() > deadline:
                raise LabError(f"{self!r}: {arrived} of {wanted} blocks have arrived, and no more in {GOES_ON:g} s")
            await asyncio.sleep(0.5)
        self._require_running()

    async def whole(self) -> int:
        """Wait for the end; return how many blocks arrived. Raises LabError unless they are all that were sent."""
        received, sent = await asyncio.gather(*self._ends)
        if sent != received * 2:
            raise LabError(f"{self!r}: received {received}, said to be received and sent {sent}")
        return int(received[0])

    async def end(self) -> int:
        """Let the sender stop, which must be sending still, and wait as `whole` does. Raises LabError."""
        self._require_running()
        await self._sender.run("touch", f"/run/enough-{self._port}")
        return await self.whole()

    def _require_running(self) -> None:
        for end in self._ends:
            if end.done():
                raise LabError(f"{self!r} has ended too early: {end.result()}")
