"""For authors of engines whose tests run processes: machines that are a directory each, with ports of their own.

    @pytest.fixture
    async def machine(tmp_path):
        async with machines(lambda name: Machine(name, tmp_path / name)) as make:
            yield make

`Machine` derives from `EngineMachine`, and says how an engine is made there, with `Child` as its supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from kairos_core.errors import EngineError
from kairos_core.interfaces import Engine
from kairos_core.model import EngineState, EngineStatus, Join, NodePlan, Role

PATIENCE = 30.0
"""Seconds until an engine must have reached a state; more costs time only where a test fails."""

WRITTEN = 5.0
"""Seconds until a process that was started must have written its number."""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port on 127.0.0.1 that nobody had at this moment; without a guarantee that it stays so."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class EngineMachine(ABC):
    """A machine: its root directory, and the ports of its API server and of its kubelet's health."""

    SERVICE: ClassVar[str]
    """The service of a master."""

    name: str
    root: Path
    port: int = field(default_factory=free_port)
    health: int = field(default_factory=free_port)
    address: str = "127.0.0.1"

    @abstractmethod
    def engine(self, *arguments: str) -> Engine:
        """Return a new engine on this machine, as a restarted agent has; it is given further arguments."""

    @abstractmethod
    def plan(self, role: Role, join: Join | None = None) -> NodePlan:
        """Return the plan for this machine in a role; with `join` it joins, without it initialises a cluster."""

    def join(self, status: EngineStatus) -> Join:
        """Return how others join this master, which is ready."""
        assert status.join_token
        return Join(f"https://127.0.0.1:{self.port}", status.join_token)

    def pid(self, service: str = "") -> int:
        """Return the process of a service, that of a master unless it is named. Raises FileNotFoundError."""
        file = self.root / f"run/kairos/{service or self.SERVICE}.pid"
        deadline = time.monotonic() + WRITTEN
        while not (words := file.read_text().split()):  # the process that was started writes it, a moment later
            if time.monotonic() > deadline:
                raise OSError(f"{file} stays empty")
            time.sleep(0.01)
        return int(words[0])

    def argv(self, service: str = "") -> str:
        """Return the arguments with which it runs, as every user of the machine sees them."""
        return Path(f"/proc/{self.pid(service)}/cmdline").read_text()


async def reached(engine: Engine, state: EngineState) -> EngineStatus:
    """Wait until the engine's state is this one, and return its status. Raises AssertionError when it does not come."""
    status = await engine.status()
    try:
        async with asyncio.timeout(PATIENCE):
            while status.state is not state:
                await asyncio.sleep(0.05)
                status = await engine.status()
    except TimeoutError:
        raise AssertionError(f"the engine is {status.state}, not {state}: {status.message}") from None
    return status


M = TypeVar("M", bound=EngineMachine)


@contextlib.asynccontextmanager
async def machines(make: Callable[[str], M]) -> AsyncIterator[Callable[[str], M]]:
    """Lend a function that makes machines, by their names; what runs on them is removed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        def add(name: str) -> M:
            machine = make(name)
            stack.push_async_callback(machine.engine().remove)
            return machine

        yield add


def check_secrets(machine: EngineMachine, *secrets: str, service: str = "") -> set[str]:
    """Hold an engine to it that secrets, private keys among them, are for their owner alone; return the files with any.

    Arguments hold none, since every user of a machine can read them, and a file with one is nobody else's to read.
    """
    argv = machine.argv(service)
    assert not [secret for secret in secrets if secret in argv], "arguments must hold no secret"
    holders = set()
    for file in machine.root.rglob("*"):
        text = file.read_text(errors="replace") if file.is_file() else ""
        if any(secret in text for secret in (*secrets, "PRIVATE KEY")):
            holders.add(str(file.relative_to(machine.root)))
            mode = stat.S_IMODE(file.stat().st_mode)
            assert mode == 0o600, f"{file} holds a secret, and has the mode {mode:04o}"
    return holders


async def check_cluster(make: Callable[[str], EngineMachine]) -> tuple[EngineStatus, EngineStatus]:
    """Hold an engine to it that a master, a further one and a worker form one cluster; return the masters' status."""
    first, second, worker = make("first"), make("second"), make("worker")
    engines = first.engine(), second.engine(), worker.engine()
    await engines[0].apply(first.plan(Role.CLUSTER_INIT))
    initial = await reached(engines[0], EngineState.READY)
    await engines[1].apply(second.plan(Role.HA, first.join(initial)))
    await engines[2].apply(worker.plan(Role.WORKER, first.join(initial)))
    await reached(engines[2], EngineState.READY)
    await _knows(engines[1], "first", "second", "worker")
    return initial, await engines[1].status()


async def check_expulsion(make: Callable[[str], EngineMachine]) -> None:
    """Hold an engine to it that of three masters one takes out another, and that this one comes back as a clean node.

    The three need addresses of their own where an engine knows members by theirs.
    """
    first, second, third = make("first"), make("second"), make("third")
    one, two, three = first.engine(), second.engine(), third.engine()
    await one.apply(first.plan(Role.CLUSTER_INIT))
    join = first.join(await reached(one, EngineState.READY))
    for machine, engine in ((second, two), (third, three)):
        await engine.apply(machine.plan(Role.HA, join))
        await reached(engine, EngineState.READY)
    for engine in (one, two, three):
        await _knows(engine, "first", "second", "third")
    await two.expel("third")
    await two.expel("third")  # who is out already may be taken out again
    for engine in (one, two):
        await _knows(engine, "first", "second")
    # An agent that was started again while it left has applied nothing.
    await third.engine().remove()
    assert await third.engine().service() is None, "after remove() there must be no service"
    again = third.engine()
    await again.apply(third.plan(Role.HA, join))
    await reached(again, EngineState.READY)
    for engine in (one, two, again):
        await _knows(engine, "first", "second", "third")


async def check_expulsion_of_strangers(machine: EngineMachine) -> None:
    """Hold an engine to it that nothing happens to a cluster for who is not in it, whatever a name looks like."""
    engine = machine.engine()
    with contextlib.suppress(EngineError):  # there is no cluster yet
        await engine.expel("stranger")
        raise AssertionError("expel() must be refused where no master runs")
    await engine.apply(machine.plan(Role.CLUSTER_INIT))
    await reached(engine, EngineState.READY)
    for name in ("stranger", "", "--all", "-l=a", "nodes/first", f"{machine.name},x", f"{machine.name} x", "x" * 300):
        await engine.expel(name)
    await _knows(engine, machine.name)


async def _knows(engine: Engine, *names: str) -> None:
    """Wait until a master is ready, and its cluster has these nodes and no others."""
    status = await engine.status()
    try:
        async with asyncio.timeout(PATIENCE):
            while status.state is not EngineState.READY or status.nodes != names:
                await asyncio.sleep(0.05)
                status = await engine.status()
    except TimeoutError:
        raise AssertionError(f"a {status.state} master knows {status.nodes}, not {names}: {status.message}") from None


async def check_adoption(machine: EngineMachine) -> None:
    """Hold an engine to it that a restarted agent adopts what runs, and starts no second cluster."""
    before = machine.engine()
    await before.apply(machine.plan(Role.MASTER))
    first, pid = await reached(before, EngineState.READY), machine.pid()
    after = machine.engine()
    await after.apply(machine.plan(Role.MASTER))
    status = await after.status()
    assert machine.pid() == pid, "a restarted agent must not restart what runs"
    assert status.state is EngineState.READY, f"a restarted agent must find what runs: {status.message}"
    assert status.join_token == first.join_token, "a restarted agent must not start another cluster"


async def check_revival(machine: EngineMachine) -> None:
    """Hold an engine to it that what is killed is told, and comes back as the same cluster."""
    engine = machine.engine()
    await engine.apply(machine.plan(Role.MASTER))
    first, pid = await reached(engine, EngineState.READY), machine.pid()
    os.kill(pid, signal.SIGKILL)
    await reached(engine, EngineState.FAILED)
    again = await reached(engine, EngineState.READY)
    assert machine.pid() != pid, "what was killed must be another process when it is back"
    assert again.join_token == first.join_token, "what was killed must come back as the same cluster"
