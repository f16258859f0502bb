"""Many datagrams of one size in one system call, without a copy between header and body.

A batch of datagrams of `size` bytes lies in two buffers: the 16-byte headers side by side, and the bodies side by
side. `iov` interleaves them, so sendmsg and recvmsg scatter and gather them as they are on the wire, while the
body of a group of datagrams is one piece for the cipher:

    headers  h0 h1 h2 ...            wire  h0 body0 h1 body1 h2 body2 ...
    body     body0 body1 body2 ...
"""

from __future__ import annotations

import socket
import struct

HEADER_SIZE = 16
MAX_DATAGRAMS = 128
"""Datagrams in one batch: 64 KiB in steps of 512 bytes. UDP_MAX_SEGMENTS of linux/udp.h, 64 before Linux 6.9."""
MAX_PAYLOAD = 65507
"""Bytes in one UDP datagram over IPv4, and so in one send with UDP_SEGMENT."""
MOST_RECEIVED = 0xFFFF
"""Bytes in one receive. Each has room for it, whatever was received before: the kernel throws away the rest."""
MAX_SEGMENTS = 64
"""Datagrams in one send: what every kernel with UDP_SEGMENT takes."""
UDP_SEGMENT = 103
SOL_UDP = socket.IPPROTO_UDP


class Batch:
    """The buffers of up to `most` datagrams of one size, the last of which may be shorter."""

    __slots__ = (
        "_filled",
        "body",
        "chunk",
        "control",
        "headers",
        "iov",
        "many",
        "most",
        "one",
        "per_send",
        "size",
        "words",
    )

    def __init__(self, size: int, most: int = MAX_DATAGRAMS) -> None:
        self.size = size
        self.most = most
        self.chunk = size - HEADER_SIZE
        self.headers = bytearray(HEADER_SIZE * most)
        self.body = memoryview(bytearray(max(self.chunk * most, MOST_RECEIVED)))
        heads = memoryview(self.headers)
        self.words = heads.cast("Q")
        """The headers in words of 8 bytes, two for each: a step of 2 reads or writes a half of all at once."""
        self.iov: list[memoryview] = []
        for i in range(most):
            self.iov.append(heads[HEADER_SIZE * i : HEADER_SIZE * (i + 1)])
            self.iov.append(self.body[self.chunk * i : self.chunk * (i + 1)])
        self.many = self.iov[: 2 * min(most, MOST_RECEIVED // size + 1)]
        """Where to receive many datagrams of this size; behind small ones is room for larger ones."""
        if self.chunk * most < MOST_RECEIVED:
            self.many.append(self.body[self.chunk * most :])
        self.one = [self.iov[0], self.body[:MOST_RECEIVED]]
        """Where to receive one datagram of any size: 5 us cheaper, but more would lie in one piece."""
        self.control = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))]
        self._filled: tuple[int, list[memoryview]] = 0, []
        self.per_send = max(1, min(MAX_SEGMENTS, MAX_PAYLOAD // size))

    def filled(self, length: int) -> list[memoryview]:
        """Return what to send when the first `length` bytes of the body are in use. The caller leaves it as it is."""
        if self._filled[0] == length:  # super-packets of one flow are of one size
            return self._filled[1]
        whole, rest = divmod(length, self.chunk)
        iov = self.iov[: 2 * whole]
        if rest:
            iov += (self.iov[2 * whole], self.iov[2 * whole + 1][:rest])
        self._filled = length, iov
        return iov

    def flat(self, iov: list[memoryview], length: int) -> bytes:
        """Return the first `length` bytes that were received there as they were on the wire."""
        pairs = -(-length // self.size) if iov is self.many else 1
        return b"".join(iov[: 2 * pairs])[:length]


class Loose:
    """Datagrams of any one size, copied from what was received into a batch of another size."""

    __slots__ = ("body", "chunk", "headers")

    def __init__(self) -> None:
        self.chunk = 0
        self.headers = bytearray()
        self.body = memoryview(b"")

    def load(self, wire: bytes, size: int) -> None:
        """Take what was on the wire: datagrams of `size` bytes, the last of which may be shorter."""
        starts = range(0, len(wire), size)
        self.chunk = size - HEADER_SIZE
        self.headers = bytearray().join(wire[at : at + HEADER_SIZE] for at in starts)
        self.body = memoryview(b"".join(wire[at + HEADER_SIZE : at + size] for at in starts))

    @property
    def words(self) -> memoryview:
        """The headers as in a Batch, as far as they are whole."""
        return memoryview(self.headers)[: len(self.headers) // HEADER_SIZE * HEADER_SIZE].cast("Q")
