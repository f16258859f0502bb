"""What stands for a TUN device and for the underlay, where a test looks at what a node's way out makes of frames."""

from __future__ import annotations

from typing import Any


class Tun:
    """A TUN device with virtio headers, on which frames wait; keeps what is written to it."""

    def __init__(self) -> None:
        self.frames, self.written = list[bytes](), list[bytes]()

    def read(self, into: memoryview) -> int | None:
        if not self.frames:
            return None
        frame = self.frames.pop(0)
        into[: len(frame)] = frame
        return len(frame)

    def write(self, frame: memoryview) -> None:
        self.written.append(bytes(frame))


class Cable:
    """An underlay that notes each send: what the other side receives, the size of its datagrams, where to.

    What is in `coming` is received, with the size of its datagrams and where it is from.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int, Any]] = []
        self.coming: list[tuple[bytes, int, Any]] = []

    def receive(self, buffers: list[memoryview]) -> tuple[int, int, Any] | None:
        if not self.coming:
            return None
        wire, size, source = self.coming.pop(0)
        buffers[0][: len(wire)] = wire
        return len(wire), size, source

    def send_record(self, wire: memoryview, size: int, endpoint: Any) -> int:
        self.sent.append((bytes(wire), size, endpoint))
        return len(wire)

    def send_uneven(self, datagrams: list[memoryview], endpoint: Any) -> int:
        self.sent.append((b"".join(datagrams), len(datagrams[0]), endpoint))
        return sum(map(len, datagrams))

    def send(self, datagram: bytes | memoryview, endpoint: Any) -> None:
        self.sent.append((bytes(datagram), len(datagram), endpoint))
