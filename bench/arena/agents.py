"""What both kinds of agents have in common, so that both are measured by the same code.

The moment of an arrival is when the benchmark hears of it: serf tells it over its RPC connection, ours over its
standard output. Both take a fraction of a millisecond, and neither is taken off.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """How an agent sees the network: how many are alive (itself too), and the names of those that are not."""

    alive: int
    dead: frozenset[str]


class Agent(ABC):
    """One process that gossips. `heard(update, when)` is called for each update that another agent made."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = ""
        self.process: asyncio.subprocess.Process
        self.heard: Callable[[Agent, str, float], None] = lambda _agent, _update, _when: None

    @abstractmethod
    async def start(self) -> None:
        """Start the process; returns when it takes orders. It knows nobody yet."""

    @abstractmethod
    async def join(self, seed: Agent) -> None:
        """Tell it to join the network of which the seed is part."""

    @abstractmethod
    async def write(self, update: str) -> None:
        """Tell it to spread a small update."""

    @abstractmethod
    async def state(self) -> State:
        """Ask it how it sees the network."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def arrived(self, update: str) -> None:
        """Pass on that an update has come to this agent, now."""
        self.heard(self, update, time.monotonic())

    async def kill(self) -> None:
        """End the process without a word (SIGKILL)."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
