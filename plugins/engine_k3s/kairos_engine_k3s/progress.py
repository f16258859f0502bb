"""How far a download is, for whoever asks meanwhile. Pure: one thread writes it, another reads it."""

from __future__ import annotations

from dataclasses import dataclass

STEPS = 10
"""Texts that one download has. Each goes into the log and to all nodes, so more of them are noise and traffic."""

STRIDE = 16 << 20
"""Bytes between two texts where the server does not say how many there are."""


@dataclass
class Progress:
    """A download of a version: bytes on the disk, and in all (0: not known)."""

    version: str
    done: int = 0
    total: int = 0

    def __str__(self) -> str:
        begun = f"downloading k3s {self.version}"
        if not self.total:
            done = self.done - self.done % STRIDE
            return f"{begun}: {done >> 20} MB" if done else begun
        done = self.total * (self.done * STEPS // self.total) // STEPS
        return f"{begun}: {done >> 20} of {self.total >> 20} MB"
