"""What stands for the kernel: the other side of the device, and a socket. Both keep what they get."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from typing import Any

from kairos_net_vpn.path import Via
from kairos_net_vpn.underlay import UDP_GRO


class Device:
    """Stands for `os` and for FileIO in kairos_net_vpn.tun: keeps every frame that is written, and has none to read."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def write(self, _: int, frame: Any) -> None:
        self.frames.append(bytes(frame))

    def file(self, *_: Any, **__: Any) -> Device:
        return self

    def readinto(self, _: Any) -> None:
        return None

    def writev(self, _: int, parts: Iterable[Any]) -> None:
        self.frames.append(b"".join(parts))


class Port:
    """A UDP socket: what waits in it comes as a kernel with UDP_GRO gives it; of what leaves, sizes and places."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[bytes, int, Any]] = deque()
        self.sent: list[tuple[int, Any]] = []

    def getsockopt(self, *_: Any) -> int:
        return 0

    def setsockopt(self, *_: Any) -> None:
        pass

    def sendto(self, datagram: Any, endpoint: Any) -> None:
        self.sendmsg((datagram,), (), 0, endpoint)

    def sendmsg(self, buffers: Iterable[Any], _: Any, __: int, endpoint: Any) -> None:
        assert endpoint is not None, "a datagram to nowhere"
        assert not isinstance(endpoint, Via), "a socket knows no relays"
        self.sent.append((sum(map(len, buffers)), endpoint))

    def recvmsg_into(self, buffers: list[memoryview], _: int) -> tuple[int, list[Any], int, Any]:
        if not self.waiting:
            raise BlockingIOError
        wire, size, source = self.waiting.popleft()
        left = memoryview(wire)
        for buffer in buffers:
            part = left[: len(buffer)]
            buffer[: len(part)] = part
            left = left[len(part) :]
        ancillary = [(17, UDP_GRO, struct.pack("=i", size))] if size < len(wire) else []
        return len(wire) - len(left), ancillary, 0, source
