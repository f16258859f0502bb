"""Whole messages in a stream of bytes: each is preceded by its length, u32 big endian. Pure.

The length is checked before anything is kept for it: a peer makes us hold one message and one read at most.
"""

from __future__ import annotations

import struct

from kairos_core import MAX_MESSAGE, Drop, ProtocolError

_LENGTH = struct.Struct("!I")


def encode_frame(message: bytes) -> bytes:
    """Put the length before a message. Raises ValueError for one over `MAX_MESSAGE`: the caller's mistake."""
    if len(message) > MAX_MESSAGE:
        raise ValueError(f"a message of {len(message)} bytes is over the limit of {MAX_MESSAGE}; send it in parts")
    return _LENGTH.pack(len(message)) + message


class FrameDecoder:
    """Takes bytes as they come and gives messages as they are complete."""

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self.limit = limit
        """Bytes a message may have; low until the peer has greeted."""
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> None:
        """Add bytes, which are copied. Call `next_message` until it gives None before adding more."""
        self._buffer += data

    def next_message(self) -> bytes | None:
        """Return the next complete message, None when more bytes are needed.

        Raises ProtocolError (oversized) for a length over the limit; the stream is beyond repair then.
        """
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > self.limit:
            raise ProtocolError(Drop.OVERSIZED, f"a message of {length} bytes, the limit is {self.limit}")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        message = bytes(memoryview(self._buffer)[_LENGTH.size : end])
        del self._buffer[:end]
        return message

    @property
    def is_inside_message(self) -> bool:
        """Say whether part of a message is waiting for its rest."""
        return bool(self._buffer)
