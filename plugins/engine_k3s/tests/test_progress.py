"""How far a download is, in a few words and a few steps."""

from __future__ import annotations

import pytest
from kairos_engine_k3s.progress import STEPS, Progress


@pytest.mark.parametrize(
    ("done", "total", "said"),
    [
        (0, 0, ""),
        (15 << 20, 0, ""),
        (35 << 20, 0, ": 32 MB"),
        (0, 68 << 20, ": 0 of 68 MB"),
        (35 << 20, 68 << 20, ": 34 of 68 MB"),
        (68 << 20, 68 << 20, ": 68 of 68 MB"),
    ],
)
def test_it_says_how_much_has_come_of_how_much(done: int, total: int, said: str) -> None:
    assert str(Progress("v1.31.2+k3s1", done, total)) == f"downloading k3s v1.31.2+k3s1{said}"


def test_it_changes_a_few_times_only() -> None:
    assert len({str(Progress("v1", done, 70_000_000)) for done in range(0, 70_000_001, 50_000)}) == STEPS + 1
