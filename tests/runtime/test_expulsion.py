"""Taking nodes out of the cluster, beside everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from kairos_core.cluster.departure import Expulsion
from kairos_core.cluster.view import MAX_SENTENCE, Farewell
from kairos_core.errors import EngineError
from kairos_core.model import PeerId
from kairos_core.runtime import expulsion
from kairos_core.runtime.expulsion import Expeller
from kairos_core.testing.engines import FakeEngine

FIRST, SECOND = (Expulsion("kairos-1", PeerId(bytes([n]) * 32), f"node-{n}") for n in (1, 2))


class Bouncer(FakeEngine):
    """Takes nodes out, unless it has a failure for them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.failures: dict[str, list[Exception]] = {}

    async def expel(self, node_name: str) -> None:
        self.asked.append(node_name)
        if left := self.failures.get(node_name):
            raise left.pop()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Bouncer:
    monkeypatch.setattr(expulsion, "EXPEL_AGAIN", 0.002)
    return Bouncer()


@pytest.fixture
async def told() -> asyncio.Queue[tuple[Expulsion, Farewell]]:
    return asyncio.Queue()


@pytest.fixture
async def expeller(engine: Bouncer, told: asyncio.Queue[tuple[Expulsion, Farewell]]) -> AsyncIterator[Expeller]:
    made = Expeller(engine, lambda *farewell: told.put_nowait(farewell))
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()


async def test_who_is_named_is_taken_out_once_and_told_of(expeller: Expeller, engine: Bouncer, told) -> None:
    expeller.want((FIRST, SECOND))
    expeller.want((FIRST, SECOND))
    done = Farewell(is_done=True)
    assert [await told.get(), await told.get()] == [(FIRST, done), (SECOND, done)]
    expeller.want(())
    await asyncio.sleep(0.01)
    assert engine.asked == ["node-1", "node-2"]


@pytest.mark.parametrize("failure", [EngineError("a budget blocks the drain" + "!" * 999), RuntimeError("oops")])
async def test_a_failure_is_told_and_tried_again_and_holds_up_nobody(
    failure: Exception, expeller: Expeller, engine: Bouncer, told
) -> None:
    engine.failures["node-1"] = [failure]
    expeller.want((FIRST, SECOND))
    who, farewell = await told.get()
    assert (who, farewell.is_done) == (FIRST, False)
    assert str(failure)[:20] in farewell.message
    assert len(farewell.message) <= MAX_SENTENCE
    assert await told.get() == (SECOND, Farewell(is_done=True))
    assert await told.get() == (FIRST, Farewell(is_done=True))
