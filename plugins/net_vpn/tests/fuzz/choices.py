"""An input of the fuzzer, read as a row of choices. The unit tests read theirs in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Option = TypeVar("Option")


class Choices:
    """Takes each choice from the next bytes of an input; when they are used up, each is the first one."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def octets(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken.ljust(size, b"\0")

    def below(self, count: int) -> int:
        return int.from_bytes(self.octets(max(1, ((count - 1).bit_length() + 7) // 8))) % count

    def pick(self, options: Sequence[Option]) -> Option:
        return options[self.below(len(options))]

    def chance(self) -> bool:
        return bool(self.below(2))

    def altered(self, data: bytes, most: int = 4) -> bytes:
        """Return the data with a few bytes replaced."""
        changed = bytearray(data)
        for _ in range(self.below(most + 1) if data else 0):
            changed[self.below(len(changed))] = self.below(256)
        return bytes(changed)
