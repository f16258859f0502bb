"""What the benchmark of a mesh makes of the memory that it reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    import mesh

    return mesh


def test_a_peer_takes_what_the_first_agents_have_grown_by_since_it_was_not_there(mesh: Any) -> None:
    few = [mesh.Memory(50_000_000, 28_000_000, 20_000_000, 9_000_000)] * 2
    many = [mesh.Memory(54_000_000, 28_400_000, 24_000_000, 9_160_000)] * 2
    others = [mesh.Memory(99_000_000, 99_000_000, 99_000_000, 99_000_000)]
    told = mesh.memory_figures(few, many + others, many, 8)
    assert (told["agent_kb_per_peer"], told["data_plane_kb_per_peer"]) == (500.0, 20.0)
    assert (told["agent_mb"], told["data_plane_mb"]) == (54.0, 28.4)


def test_private_memory_is_a_part_of_all_memory(mesh: Any) -> None:
    assert 1_000_000 < mesh.private_bytes(os.getpid()) < mesh.resident_bytes(os.getpid())
