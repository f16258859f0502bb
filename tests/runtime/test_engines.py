import asyncio
from dataclasses import replace

import pytest

from kairos_core import SecretStr
from kairos_core.errors import EngineError
from kairos_core.model import EngineState, EngineStatus, Join, NodePlan, Role
from kairos_core.runtime import engines as engines_module
from kairos_core.runtime.engines import EngineRunner
from kairos_core.testing.engines import PLAN, FakeCluster, FakeEngine


class TroubledEngine(FakeEngine):
    """Fails its next calls."""

    def __init__(self, *failures: Exception, **fake) -> None:
        super().__init__(**fake)
        self.failures = list(failures)
        self.status_failure: Exception | None = None

    async def apply(self, plan: NodePlan) -> None:
        if self.failures:
            raise self.failures.pop(0)
        await super().apply(plan)

    async def status(self) -> EngineStatus:
        if self.status_failure:
            raise self.status_failure
        return await super().status()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    for name in ("LOOK_STARTING", "LOOK_RUNNING", "LOOK_APPLYING", "APPLY_AGAIN"):
        monkeypatch.setattr(engines_module, name, 0.002)


@pytest.fixture
async def run():
    """Give a function that runs an engine and returns its runner and the states it told of."""
    tasks = []

    def start(engine: FakeEngine):
        runner, told = EngineRunner(engine), []
        changed = asyncio.Event()
        runner.changed = lambda: (told.append(runner.status), changed.set())
        tasks.append(asyncio.create_task(runner.run()))

        async def until(state: EngineState) -> None:
            async with asyncio.timeout(5):
                while runner.status.state is not state:
                    changed.clear()
                    await changed.wait()

        return runner, told, until

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_nothing_runs_before_there_is_a_plan(run):
    engine = FakeEngine()
    runner, told, _ = run(engine)
    await asyncio.sleep(0.01)
    assert (engine.plans, told) == ([], [])
    assert runner.status.state is EngineState.ABSENT


async def test_a_plan_is_applied_once_and_each_state_is_told_once(run):
    engine = FakeEngine(delay=3)
    runner, told, until = run(engine)
    runner.follow(PLAN)
    runner.follow(replace(PLAN))
    await until(EngineState.READY)
    await asyncio.sleep(0.01)
    assert engine.plans == [PLAN]
    assert [status.state for status in told] == [EngineState.STARTING, EngineState.READY]


async def test_another_plan_is_applied_at_once(run, monkeypatch):
    monkeypatch.setattr(engines_module, "LOOK_RUNNING", 60.0)
    engine = FakeEngine()
    runner, _, until = run(engine)
    runner.follow(PLAN)
    await until(EngineState.READY)
    other = replace(PLAN, tls_names=("edge.example",))
    runner.follow(other)
    async with asyncio.timeout(5):
        while engine.plans[-1] != other:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert engine.plans == [PLAN, other]


@pytest.mark.parametrize("failure", [EngineError("k3s cannot be downloaded"), OSError(28, "No space left on device")])
async def test_a_plan_that_cannot_be_applied_is_told_and_tried_again(run, failure):
    engine = TroubledEngine(failure, failure)
    runner, told, until = run(engine)
    runner.follow(PLAN)
    await until(EngineState.READY)
    assert [status.state for status in told] == [EngineState.FAILED, EngineState.READY]
    assert str(failure).split("]")[-1].strip() in told[0].message
    assert engine.plans == [PLAN]


async def test_another_plan_ends_the_wait_for_the_next_try(run, monkeypatch):
    monkeypatch.setattr(engines_module, "APPLY_AGAIN", 60.0)
    engine = TroubledEngine(EngineError("not with this plan"))
    runner, _, until = run(engine)
    runner.follow(PLAN)
    await until(EngineState.FAILED)
    runner.follow(replace(PLAN, tls_names=("edge.example",)))
    await until(EngineState.READY)


async def test_an_engine_that_fails_later_and_recovers_is_told(run):
    engine = TroubledEngine()
    runner, told, until = run(engine)
    runner.follow(PLAN)
    await until(EngineState.READY)
    engine.status_failure = RuntimeError("a mistake of the plugin")
    await until(EngineState.FAILED)
    assert "a mistake of the plugin" in told[-1].message
    engine.status_failure = None
    await until(EngineState.READY)


async def test_a_wrong_join_token_shows_as_failed_with_the_engine_s_reason(run):
    engine = FakeEngine(FakeCluster(token="right"))
    runner, _, until = run(engine)
    join = Join("https://10.1.0.1:6443", SecretStr("wrong"))
    runner.follow(replace(PLAN, role=Role.WORKER, join=join, cluster_token=None))
    await until(EngineState.FAILED)
    assert "401 Unauthorized" in runner.status.message


async def test_what_is_dismissed_is_removed_once_and_not_looked_at_any_more(run):
    engine = FakeEngine()
    runner, told, until = run(engine)
    runner.follow(PLAN)
    await until(EngineState.READY)
    runner.dismiss()
    runner.dismiss()
    await until(EngineState.ABSENT)
    assert runner.is_dismissed
    assert engine.removals == 1
    before = len(told)
    await asyncio.sleep(0.02)
    assert len(told) == before
    runner.follow(PLAN)
    assert not runner.is_dismissed
    await until(EngineState.READY)


async def test_a_removal_that_fails_is_told_and_tried_again(run):
    class Stubborn(FakeEngine):
        async def remove(self) -> None:
            if not self.removals:
                self.removals += 1
                raise EngineError("the disk is read-only")
            await super().remove()

    runner, told, until = run(Stubborn())
    runner.follow(PLAN)
    await until(EngineState.READY)
    runner.dismiss()
    await until(EngineState.FAILED)
    await until(EngineState.ABSENT)
    assert runner.is_dismissed
    assert [status.message for status in told if status.state is EngineState.FAILED] == ["the disk is read-only"]


class SlowEngine(FakeEngine):
    """Takes its time to apply a plan, and says how far it is."""

    def __init__(self) -> None:
        super().__init__()
        self.said = EngineStatus(EngineState.ABSENT)
        self.may_end = asyncio.Event()
        self.was_cancelled = False

    async def apply(self, plan: NodePlan) -> None:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        await super().apply(plan)

    async def status(self) -> EngineStatus:
        if self.said.state is EngineState.FAILED:
            raise RuntimeError("not now")
        return await super().status() if self.may_end.is_set() else self.said


async def test_what_a_plan_waits_for_is_told_while_it_is_applied(run):
    engine = SlowEngine()
    runner, told, until = run(engine)
    runner.follow(PLAN)
    for said in (EngineStatus(EngineState.STARTING, "6 of 68 MB"), EngineStatus(EngineState.STARTING, "13 of 68 MB")):
        engine.said = said
        async with asyncio.timeout(5):
            while runner.status != said:  # noqa: ASYNC110
                await asyncio.sleep(0)
    engine.said = EngineStatus(EngineState.FAILED)
    await asyncio.sleep(0.01)
    engine.said = EngineStatus(EngineState.READY, "of the plan before")
    await asyncio.sleep(0.01)
    assert [status.message for status in told] == ["6 of 68 MB", "13 of 68 MB"]
    engine.may_end.set()
    await until(EngineState.READY)
    assert len(told) == 3


async def test_an_agent_that_ends_does_not_wait_for_what_is_applied():
    engine = SlowEngine()
    runner = EngineRunner(engine)
    runner.follow(PLAN)
    running = asyncio.create_task(runner.run())
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert engine.was_cancelled
    assert len(asyncio.all_tasks()) == 1
