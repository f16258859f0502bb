"""For authors of engines whose tests run processes: checks of how a master takes a node out of the cluster.

The machines are those of `machines`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from kairos_core.errors import EngineError
from kairos_core.interfaces import Engine
from kairos_core.kubernetes.kubectl import Kubectl
from kairos_core.model import EngineState, Role
from kairos_core.testing.machines import EngineMachine, M, begun, joined, knows, reached

HELD = r'second cannot be drained: evicting pods/"web".*disruption budget.*--force'
"""What an operator must read of a drain that a budget holds up: whose it is, why, and the way out."""

SILENCE = 30.0
"""Seconds until a cluster must know that a node is dead; more costs time only where a test fails."""


async def check_expulsion(make: Callable[[str], EngineMachine]) -> None:
    """Hold an engine to it that of three masters one takes out another, and that this one comes back as a clean node.

    The three need addresses of their own where an engine knows members by theirs.
    """
    first, second, third = make("first"), make("second"), make("third")
    one, join = await begun(first)
    two, three = [await joined(machine, Role.HA, join) for machine in (second, third)]
    for engine in (one, two, three):
        await knows(engine, "first", "second", "third")
    await two.expel("third")
    await two.expel("third")  # who is out already may be taken out again
    for engine in (one, two):
        await knows(engine, "first", "second")
    # An agent that was started again while it left has applied nothing.
    await third.engine().remove()
    assert await third.engine().service() is None, "after remove() there must be no service"
    again = await joined(third, Role.HA, join)
    for engine in (one, two, again):
        await knows(engine, "first", "second", "third")


async def check_expulsion_of_strangers(machine: EngineMachine) -> None:
    """Hold an engine to it that nothing happens to a cluster for who is not in it, whatever a name looks like."""
    engine = machine.engine()
    assert await _refusal(engine, "stranger"), "expel() must be refused where no master runs"
    await engine.apply(machine.plan(Role.CLUSTER_INIT))
    await reached(engine, EngineState.READY)
    for name in ("stranger", "", "--all", "-l=a", "nodes/first", f"{machine.name},x", f"{machine.name} x", "x" * 300):
        await engine.expel(name)
    await knows(engine, machine.name)


async def check_expulsion_of_the_dead(
    make: Callable[[str], M], kubectl: Callable[[M], Kubectl], *arguments: str
) -> None:
    """Hold an engine to it that a dead worker is taken out as soon as the cluster knows that it is dead.

    `kubectl` returns that of a master; the master's engine is given `arguments`, which may have it know sooner.
    """
    first, worker = make("first"), make("worker")
    engine, join = await begun(first, *arguments)
    working = await joined(worker, Role.WORKER, join)
    service = await working.service()
    assert service is not None, "what was started must be a service"
    await service.stop()
    asked = kubectl(first)
    async with asyncio.timeout(SILENCE):
        while not ((node := await asked.node("worker")) and node.is_silent):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
    await engine.expel("worker")
    assert (await engine.status()).nodes == ("first",), "who is dead must be taken out"


async def check_budget(make: Callable[[str], M], role: Role, argument: str) -> M:
    """Hold an engine to it that it deletes nobody whose pods a disruption budget holds; return the master that tried.

    The other node has this role, and is called second; its engine is given an argument, by which it has such a pod.
    """
    first, second = make("first"), make("second")
    engine, join = await begun(first)
    await joined(second, role, join, argument)
    refusal = await _refusal(engine, "second")
    assert re.search(HELD, refusal), f"a drain that is held up must say so, and by what: {refusal or 'nothing'}"
    assert (await engine.status()).nodes == ("first", "second"), "who cannot be drained must stay in the cluster"
    return first


async def _refusal(engine: Engine, name: str) -> str:
    """Let a node be taken out; return why that was refused, and nothing where it was not."""
    try:
        await engine.expel(name)
    except EngineError as error:
        return str(error)
    return ""
