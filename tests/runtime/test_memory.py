"""Memory that is free again goes back to the system."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from kairos_core.runtime import memory

BURST = """
from pathlib import Path
from kairos_core.runtime.memory import give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

pieces = [bytes(600) for _ in range(100_000)]  # larger than what Python's own allocator takes
kept = pieces[::100]
del pieces
before = resident()
give_back()
print(before - resident())
"""


def test_what_a_burst_left_in_pieces_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", BURST], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 20e6


async def test_it_is_done_soon_after_the_start_and_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    done = asyncio.Event()
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            done.set()
            await asyncio.Event().wait()

    times: list[int] = []
    monkeypatch.setattr(memory.asyncio, "sleep", sleep)
    monkeypatch.setattr(memory, "give_back", lambda: times.append(1))
    task = asyncio.create_task(memory.keep_small())
    await done.wait()
    task.cancel()
    assert pauses == [memory.FIRST, memory.AGAIN, memory.AGAIN]
    assert len(times) == 2
