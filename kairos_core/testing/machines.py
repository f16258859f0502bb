"""For authors of engines whose tests run processes: machines that are a directory each, with ports of their own.

    @pytest.fixture
    async def machine(tmp_path):
        async with machines(in_directories(tmp_path, Machine, install_stand_in)) as make:
            yield make

`Machine` derives from `EngineMachine`, and says how an engine is made there, with `Child` as its supervisor. Checks of
what a master does with other nodes are in `expulsions`, those of what an engine knows from the disk in `records`.
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
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import ClassVar, TypeVar

import yaml

from kairos_core.interfaces import Engine
from kairos_core.model import Attachment, EngineState, EngineStatus, Join, NodePlan, Role

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

    def write(self, files: Mapping[str, str]) -> None:
        """Write files, by their paths below the root."""
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text)


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


async def knows(engine: Engine, *names: str) -> None:
    """Wait until a master is ready, and its cluster has these nodes and no others. Raises AssertionError."""
    status = await engine.status()
    try:
        async with asyncio.timeout(PATIENCE):
            while status.state is not EngineState.READY or status.nodes != names:
                await asyncio.sleep(0.05)
                status = await engine.status()
    except TimeoutError:
        raise AssertionError(f"a {status.state} master knows {status.nodes}, not {names}: {status.message}") from None


M = TypeVar("M", bound=EngineMachine)


def in_directories(directory: Path, kind: type[M], install: Callable[[Path, Path], object]) -> Callable[[str], M]:
    """Return what makes machines: each in a directory called as it is, and with an address of its own on this host.

    `install` puts the program that the engine runs into a directory, for the root that follows.
    """
    numbers = count(1)

    def make(name: str) -> M:
        root = directory / name
        install(root / "usr/local/bin", root)
        return kind(name, root, address=f"127.0.0.{next(numbers)}")

    return make


@contextlib.asynccontextmanager
async def machines(make: Callable[[str], M]) -> AsyncIterator[Callable[[str], M]]:
    """Lend a function that makes machines, by their names; what runs on them is removed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        def add(name: str) -> M:
            machine = make(name)
            stack.push_async_callback(machine.engine().remove)
            return machine

        yield add


async def begun(machine: EngineMachine, *arguments: str, role: Role = Role.CLUSTER_INIT) -> tuple[Engine, Join]:
    """Let a machine begin a cluster; return its engine, which is given further arguments, and how others join it."""
    engine = machine.engine(*arguments)
    await engine.apply(machine.plan(role))
    return engine, machine.join(await reached(engine, EngineState.READY))


async def joined(machine: EngineMachine, role: Role, join: Join, *arguments: str) -> Engine:
    """Let a machine join a cluster in a role; return its engine, which is given further arguments, when it is ready."""
    engine = machine.engine(*arguments)
    await engine.apply(machine.plan(role, join))
    await reached(engine, EngineState.READY)
    return engine


async def formed(make: Callable[[str], M]) -> tuple[tuple[M, M, M], tuple[Engine, Engine, Engine], Join]:
    """Let a master begin a cluster, and a further one and a worker join it at the same time.

    Returns the three machines, called first, second and worker, their engines, and how the two joined.
    """
    first, second, worker = make("first"), make("second"), make("worker")
    engine, join = await begun(first)
    joining, working = second.engine(), worker.engine()
    await joining.apply(second.plan(Role.HA, join))
    await working.apply(worker.plan(Role.WORKER, join))
    for each in (joining, working):
        await reached(each, EngineState.READY)
    return (first, second, worker), (engine, joining, working), join


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
    _, (first, second, _), _ = await formed(make)
    await knows(second, "first", "second", "worker")
    return await first.status(), await second.status()


async def check_adoption(machine: EngineMachine) -> None:
    """Hold an engine to it that a restarted agent adopts what runs, and starts no second cluster."""
    _, join = await begun(machine, role=Role.MASTER)
    pid = machine.pid()
    after = machine.engine()
    await after.apply(machine.plan(Role.MASTER))
    status = await after.status()
    assert machine.pid() == pid, "a restarted agent must not restart what runs"
    assert status.state is EngineState.READY, f"a restarted agent must find what runs: {status.message}"
    assert status.join_token == join.token, "a restarted agent must not start another cluster"


async def check_revival(machine: EngineMachine) -> None:
    """Hold an engine to it that what is killed is told, and comes back as the same cluster."""
    engine, join = await begun(machine, role=Role.MASTER)
    pid = machine.pid()
    os.kill(pid, signal.SIGKILL)
    await reached(engine, EngineState.FAILED)
    again = await reached(engine, EngineState.READY)
    assert machine.pid() != pid, "what was killed must be another process when it is back"
    assert again.join_token == join.token, "what was killed must come back as the same cluster"


async def check_kubeconfig(machine: EngineMachine) -> None:
    """Hold an engine to it that a master's kubeconfig is whole, and names the endpoint where there is one, else itself.

    The endpoint is `localhost`.
    """
    engine, plan = machine.engine(), machine.plan(Role.MASTER)
    for endpoint in (None, "localhost"):
        await engine.apply(replace(plan, attachment=Attachment(node_ip=machine.address, endpoint=endpoint)))
        status = await reached(engine, EngineState.READY)
        assert status.kubeconfig, "a ready master must report its kubeconfig"
        document = yaml.safe_load(status.kubeconfig.get_secret_value())
        server = f"https://{endpoint or machine.address}:{machine.port}"
        assert document["clusters"][0]["cluster"]["server"] == server, f"the kubeconfig must name {server}"
        assert document["users"][0]["user"].get("client-key-data"), "a kubeconfig must need no other file"


async def check_unknown_flag(machine: EngineMachine, words: str) -> None:
    """Hold an engine to it that a flag which Kubernetes does not know, `--no-such-flag`, is told in its own words."""
    engine = machine.engine("--no-such-flag=1")
    await engine.apply(machine.plan(Role.MASTER))
    status = await reached(engine, EngineState.FAILED)
    assert words in status.message, f"the failure must be told in the words of the program: {status.message}"


async def check_removal(
    machine: EngineMachine,
    before: Mapping[str, str],
    *,
    meanwhile: Mapping[str, str],
    left: Collection[str],
) -> None:
    """Hold an engine to it that `remove` ends what runs, and leaves the files that it did not make, and only those.

    `before` are files that it finds, by their paths below the root, one of them where it has its own; `meanwhile`
    others that an operator writes while it runs. `left` names what may be there besides, such as the program.
    """
    machine.write(before)
    engine, _ = await begun(machine, role=Role.MASTER)
    pid = machine.pid()
    machine.write(meanwhile)
    await engine.remove()
    _check_left(machine, pid, {**before, **meanwhile}, left)


def _check_left(machine: EngineMachine, pid: int, theirs: Mapping[str, str], left: Collection[str]) -> None:
    assert not Path(f"/proc/{pid}").exists(), "after remove() nothing must run"
    found = {str(file.relative_to(machine.root)) for file in machine.root.rglob("*") if file.is_file()}
    assert found == {*theirs, *left}, "remove() must leave what it did not make, and nothing else"
    for name, text in theirs.items():
        assert (machine.root / name).read_text() == text, f"{name} must be as it was"
