"""Real agents on the machines of a lab: their configuration, their processes, and what they say of themselves."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from kairos_core.api.client import ApiClient
from kairos_core.errors import ControlError
from kairos_core.protocol.token import format_token, new_token
from kairos_core.testing.k3s import install_stand_in
from kairos_core.testing.lab import Lab, LabError, Machine, Process

Status = Mapping[str, Any]
"""What `kairos status --json` prints: `kairos_core.runtime.control.NodeStatus` as JSON types."""

CONFIG = "/etc/kairos/kairos.yaml"
SOCKET = "/run/kairos/api.sock"
POLL = 0.1
"""Seconds between two looks at an agent. Less is a finer clock and costs the agents more of the processor."""


@dataclass(frozen=True, slots=True)
class Network:
    """What the machines of one network have in common."""

    minimum_nodes: int | None  # None: the default of the configuration
    ha_masters: int = 0
    token: str = field(default="", repr=False)

    @classmethod
    def new(cls, minimum_nodes: int, ha_masters: int = 0) -> Network:
        """Make a network with a new token whose quorum is a majority of the nodes."""
        token = new_token(secrets.choice, quorum=minimum_nodes // 2 + 1)
        return cls(minimum_nodes, ha_masters, format_token(token))

    def cloud_config(self, **p2p: Any) -> str:
        """Return the configuration file of a node; `p2p` adds to or replaces keys of that block."""
        block: dict[str, Any] = {"network_token": self.token}
        if self.minimum_nodes is not None:
            block["minimum_nodes"] = self.minimum_nodes
        if self.ha_masters:
            block["auto"] = {"ha": {"enable": True, "master_nodes": self.ha_masters}}
        return "#cloud-config\n" + yaml.safe_dump({"p2p": block | p2p}, sort_keys=False)


class Observed(Protocol):
    """An agent that can be asked how it is."""

    @property
    def name(self) -> str: ...

    async def status(self) -> Status | None: ...


def install_engine(lab: Lab) -> str:
    """Give the machines a `k3s`: the real one when it is on the PATH, else the stand-in. Returns which."""
    if shutil.which("k3s"):
        return "k3s"
    install_stand_in(lab.programs)
    return "stand-in"


class Agent:
    """The agent of one machine; `program` is the `kairos` to run, for one of another environment."""

    def __init__(self, machine: Machine, program: str = "kairos") -> None:
        self.machine, self._program = machine, program
        self.process: Process | None = None

    @property
    def name(self) -> str:
        return self.machine.name

    def configure(self, cloud_config: str) -> None:
        """Write the configuration file, readable by its owner only."""
        path = self.machine.path(CONFIG)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(cloud_config)

    async def start(self) -> None:
        """Start `kairos start`. Returns at once; `status` says when it answers."""
        self.process = await self.machine.start(self._program, "start", "--config", CONFIG)

    async def stop(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal the agent and wait for its end; what it started runs on if it left it running."""
        assert self.process is not None, "the agent was never started"
        return await self.process.kill(number)

    async def status(self) -> Status | None:
        """Return what the agent says of itself, None while it does not answer. Raises LabError when it has ended."""
        if self.process is not None and not self.process.is_running:
            raise LabError(f"the agent of {self.machine.name} has ended:\n{self.process.last_lines()}")
        # In a thread: an agent that hangs must not stop the clock of those who watch it.
        return await asyncio.to_thread(_ask, self.machine.path(SOCKET))


async def launch(machines: Sequence[Machine], network: Network, **p2p: Any) -> list[Agent]:
    """Configure and start agents on all machines at the same time; `p2p` as in `Network.cloud_config`."""
    agents = [Agent(machine) for machine in machines]
    for agent in agents:
        agent.configure(network.cloud_config(**p2p))
    await asyncio.gather(*[agent.start() for agent in agents])
    return agents


async def statuses(agents: Sequence[Observed]) -> list[Status | None]:
    """Ask all agents at the same time."""
    return list(await asyncio.gather(*[agent.status() for agent in agents]))


async def until(
    agents: Sequence[Observed], holds: Callable[[list[Status]], bool], timeout: float, what: str
) -> list[Status]:
    """Wait until all agents answer and a condition over their statuses holds; return the statuses.

    Raises LabError that says what was awaited and how far each node is.
    """
    deadline = time.monotonic() + timeout
    while True:
        seen = await statuses(agents)
        answers = [status for status in seen if status is not None]
        if len(answers) == len(agents) and holds(answers):
            return answers
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout:g} s. {describe(agents, seen)}")
        await asyncio.sleep(POLL)


def agree(seen: Sequence[Status]) -> bool:
    """Say whether all show the same machines, all alive and with a role, in one cluster, and hold the same ledger."""
    pictures = {
        (
            status["cluster_id"],
            status["digest"],
            tuple((machine["peer"], machine["role"], machine["alive"]) for machine in status["machines"]),
        )
        for status in seen
    }
    machines = [machine for status in seen for machine in status["machines"]]
    return len(pictures) == 1 and all(machine["alive"] and machine["role"] for machine in machines)


def describe(agents: Sequence[Observed], seen: Sequence[Status | None]) -> str:
    """Say in a line for each node how far it is."""
    return "\n".join(_describe(agent, status) for agent, status in zip(agents, seen, strict=True))


def _describe(agent: Observed, status: Status | None) -> str:
    if status is None:
        return f"  {agent.name}: does not answer"
    me = status["me"]
    known = sum(machine["alive"] for machine in status["machines"])
    line = (
        f"  {agent.name}: {status['phase']}, sees {known}, role {me['role'] or '-'}, "
        f"address {me['address'] or '-'}, engine {me['engine'] or '-'}: {me['message']}"
    )
    return "\n    warning: ".join([line, *status["warnings"]])


def _ask(socket: Path) -> Status | None:
    try:
        answer: Status = ApiClient(f"unix://{socket}", {}).get("status")
    except ControlError:
        return None
    return answer
