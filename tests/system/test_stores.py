"""What an agent has acknowledged is there after its restart, whichever store it keeps its ledger in."""

import asyncio
import itertools
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from kairos_core.api.client import ApiClient
from kairos_core.errors import ControlError
from kairos_core.testing.agents import SOCKET, Agent, Network, Status, install_engine, launch, until
from kairos_core.testing.lab import Lab, Machine

pytestmark = pytest.mark.system

FORMED = 60.0
KILLS = 20
KEYS = 20
"""Keys of each writer, written again and again: a ledger has room for so many entries of one author."""


def is_formed(seen: list[Status]) -> bool:
    return all(status["me"]["engine"] == "ready" for status in seen)


def values_of(machine: Machine) -> dict[str, int]:
    found: dict[str, int] = ApiClient(f"unix://{machine.path(SOCKET)}", {}).get("ledger", "values")
    return found


async def test_agents_with_the_store_in_files_form_a_cluster_and_restart_with_their_ledger(lab: Lab) -> None:
    install_engine(lab)
    await asyncio.gather(*[lab.add(f"node-{number + 1}") for number in range(2)])
    agents = await launch(lab.machines, Network.new(2), plugins={"store": "files"})
    before = await until(agents, is_formed, FORMED, "a cluster")
    chosen = {row["name"] for row in before[0]["plugins"] if row["kind"] == "ledger_store" and row["chosen"]}
    assert chosen == {"files"}
    await agents[0].machine.run("kairos", "ledger", "set", "values", "colour", "green")

    for agent in agents:
        await agent.stop(signal.SIGKILL)
    assert agents[0].machine.path("/var/lib/kairos/ledger/ledger.journal").exists()
    assert not agents[0].machine.path("/var/lib/kairos/ledger/ledger.db").exists()
    # Alone: what it knows now, it knows from its disk.
    await agents[0].start()
    [alone] = await until(agents[:1], lambda seen: seen[0]["me"]["engine"] == "ready", 10, "the first is back")
    assert values_of(agents[0].machine) == {"colour": "green"}
    assert alone["cluster_id"] == before[0]["cluster_id"]
    assert alone["me"]["role"] == before[0]["me"]["role"]
    assert {machine["name"] for machine in alone["machines"]} == {"node-1", "node-2"}

    await agents[1].start()
    await until(agents, is_formed, 10, "both are back")


@dataclass
class Writer:
    """Writes rising numbers under some keys, one after the other, and remembers what was acknowledged."""

    name: str
    put: Callable[[str, int], Awaitable[bool]]

    def __post_init__(self) -> None:
        self.acknowledged: dict[str, int] = {}
        self.tried: dict[str, int] = {}

    async def run(self) -> None:
        for number in itertools.count(1):
            key = f"{self.name}-{number % KEYS}"
            self.tried[key] = number
            if await self.put(key, number):
                self.acknowledged[key] = number
            else:
                await asyncio.sleep(0.05)

    def check(self, found: dict[str, int], acknowledged: dict[str, int]) -> None:
        """What was acknowledged is there, or what was tried under the same key after it."""
        lost = {
            key: f"{found.get(key)} instead of {number}"
            for key, number in acknowledged.items()
            if not number <= found.get(key, 0) <= self.tried[key]
        }
        assert lost == {}, f"{self.name}: acknowledged, and lost by a kill"


def writers_on(machine: Machine) -> list[Writer]:
    """One writer by the command, as an operator or a script would, and two by the API, for load."""

    async def by_command(key: str, number: int) -> bool:
        return (await machine.run("kairos", "ledger", "set", "values", key, str(number), check=False)).code == 0

    async def by_api(key: str, number: int) -> bool:
        try:
            await asyncio.to_thread(api.put, number, "ledger", "values", key)
        except ControlError:
            return False
        return True

    api = ApiClient(f"unix://{machine.path(SOCKET)}", {})
    return [Writer("command", by_command), Writer("api", by_api), Writer("also", by_api)]


@pytest.mark.timeout(300)  # it takes 40 s where nothing else runs
@pytest.mark.parametrize("store", ["sqlite", "files"])
async def test_what_was_acknowledged_to_a_writer_survives_twenty_kills_of_the_agent(lab: Lab, store: str) -> None:
    agent = Agent(await lab.add("node-1"))
    only = {"store": store, "disabled": ["engine_k3s", "engine_k0s", "net_vpn", "net_kubevip"]}
    agent.configure(Network.new(1).cloud_config(plugins=only))
    await agent.start()
    await until([agent], bool, FORMED, "the agent answers")
    writers = writers_on(agent.machine)
    seed = random.SystemRandom().getrandbits(32)
    moments = random.Random(seed)
    tasks = [asyncio.create_task(writer.run()) for writer in writers]
    try:
        for _ in range(KILLS):
            await asyncio.sleep(moments.uniform(0, 0.8))
            await check_a_kill(agent, writers)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert all(writer.acknowledged for writer in writers), f"nothing was written (seed {seed})"


async def check_a_kill(agent: Agent, writers: list[Writer]) -> None:
    """Kill the agent while it is written to, start it again, and look for what it had acknowledged."""
    await agent.stop(signal.SIGKILL)
    acknowledged = [dict(writer.acknowledged) for writer in writers]
    await agent.start()
    [status] = await until([agent], bool, 15, "the agent is back")
    found = values_of(agent.machine)
    for writer, until_then in zip(writers, acknowledged, strict=True):
        writer.check(found, until_then)
    assert not [warning for warning in status["warnings"] if "ledger" in warning]
