"""The surfaces that can be attacked, by the first byte of an input."""

from __future__ import annotations

from collections.abc import Callable

from hostile import attack
from strangers import send_datagrams, send_line

SURFACES: tuple[Callable[[bytes], None], ...] = (send_line, send_datagrams, attack, attack, attack)
"""Most inputs are for records, where most can go wrong."""


def play(data: bytes) -> None:
    """Play an input. Raises what the code under attack raises, and AssertionError for what it should not do."""
    if data:
        SURFACES[data[0] % len(SURFACES)](data[1:])
