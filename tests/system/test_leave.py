"""Machines that leave for good, in order and by force, and come back as new ones; masters that are replaced."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from kairos_core.testing.agents import Agent, Network, Status, install_engine, launch, until
from kairos_core.testing.lab import Lab

pytestmark = pytest.mark.system

FORMED = 60.0
"""Seconds for a cluster to stand. Measured: 2 to 5 s; the rest is for a slow machine."""


def all_ready(seen: list[Status]) -> bool:
    return all(status["me"]["engine"] == "ready" for status in seen)


async def formed(lab: Lab, nodes: int, network: Network, **p2p: object) -> tuple[list[Agent], dict[str, Agent]]:
    """Grow a cluster; return its agents, and one of each role."""
    install_engine(lab)
    await asyncio.gather(*[lab.add(f"node-{number + 1}") for number in range(nodes)])
    agents = await launch(lab.machines, network, **p2p)
    seen = await until(agents, all_ready, FORMED, "a cluster")
    return agents, {status["me"]["role"]: agent for agent, status in zip(agents, seen, strict=True)}


async def listed(master: Agent) -> list[str]:
    """Return the names of the nodes that a master's API server has, none while it is silent."""
    shown = await master.machine.run("k3s", "kubectl", "get", "nodes", "-o", "name", check=False)
    return sorted(line.removeprefix("node/") for line in shown.stdout.split())


async def eventually(master: Agent, names: list[str]) -> None:
    """Wait until an API server lists just these nodes."""
    deadline = time.monotonic() + FORMED
    while (found := await listed(master)) != sorted(names):
        assert time.monotonic() < deadline, f"{master.name} lists {found}, not {names}"
        await asyncio.sleep(0.2)


async def leaves_no_trace(agent: Agent) -> None:
    """Check that nothing of Kubernetes, of the VPN and of the node's identity is on a machine."""
    await mark_of(agent)
    running = (await agent.machine.run("ps", "-ww", "-eo", "args")).stdout
    assert "k3s server" not in running
    assert "k3s agent" not in running
    assert (await agent.machine.run("ip", "link", "show", "kairos0", check=False)).code != 0
    assert sorted(file.name for file in agent.machine.path("/var/lib/kairos").iterdir()) == ["left", "lock"]
    rancher = agent.machine.path("/var/lib/rancher")
    assert not rancher.exists() or not [file for file in rancher.rglob("*") if file.is_file()]


async def mark_of(agent: Agent) -> None:
    """Wait until a machine has forgotten who it was: the last thing that it does."""
    deadline = time.monotonic() + FORMED
    while not agent.machine.path("/var/lib/kairos/left").exists():
        assert time.monotonic() < deadline, f"{agent.name} has not left"
        await asyncio.sleep(0.1)


def others_of(agents: list[Agent], gone: Agent) -> list[Agent]:
    return [agent for agent in agents if agent is not gone]


@pytest.mark.parametrize("role", ["master/clusterinit", "master/ha", "worker"])
async def test_a_machine_leaves_and_comes_back_as_a_new_node(lab: Lab, role: str) -> None:
    agents, by_role = await formed(lab, 5, Network.new(5, 2))
    leaving, master = by_role[role], by_role["master/ha" if role != "master/ha" else "master/clusterinit"]
    await eventually(master, [agent.name for agent in agents])
    told = await leaving.machine.run("kairos", "leave")
    assert "This machine has left." in told.stdout
    rest = others_of(agents, leaving)
    await eventually(master, [agent.name for agent in rest])
    await leaves_no_trace(leaving)

    def knows_only_the_rest(seen: list[Status]) -> bool:
        names = sorted(agent.name for agent in rest)
        return all(sorted(machine["name"] for machine in status["machines"]) == names for status in seen)

    seen = await until(rest, knows_only_the_rest, 30, "the others forget it")
    assert all_ready(seen)
    leases = json.loads((await master.machine.run("kairos", "ledger", "get", "leases", "--json")).stdout)
    assert len(leases) == len(rest), "its address was given back"
    # It stays away although its agent is started again, and comes back when it is told to.
    assert (await leaving.machine.run("kairos", "status", check=False)).code != 0
    assert "takes part again" in (await leaving.machine.run("kairos", "join")).stdout
    seen = await until(agents, all_ready, FORMED, "it is back")
    [now] = [status["me"] for agent, status in zip(agents, seen, strict=True) if agent is leaving]
    assert now["role"] in ("worker", "master/ha")
    await eventually(master, [agent.name for agent in agents])


async def test_the_first_master_that_leaves_is_replaced_by_a_worker(lab: Lab) -> None:
    agents, by_role = await formed(lab, 4, Network.new(4, 2))
    first = by_role["master/clusterinit"]
    await first.machine.run("kairos", "leave")
    rest = others_of(agents, first)

    def three_masters(seen: list[Status]) -> bool:
        return all_ready(seen) and [status["me"]["role"] for status in seen] == ["master/ha"] * 3

    await until(rest, three_masters, FORMED, "the worker is a master")
    for agent in rest:
        await eventually(agent, [other.name for other in rest])


async def test_the_only_master_does_not_leave_unless_it_is_forced(lab: Lab) -> None:
    agents, by_role = await formed(lab, 2, Network.new(2))
    master, worker = by_role["master"], by_role["worker"]
    refused = await master.machine.run("kairos", "leave", check=False)
    assert refused.code != 0
    assert "the only master" in refused.stderr
    assert (await listed(master)) == sorted(agent.name for agent in agents)
    await worker.machine.run("kairos", "leave", "--force")
    await leaves_no_trace(worker)
    await master.machine.run("kairos", "leave", "--force")
    await leaves_no_trace(master)


async def test_a_node_whose_role_is_set_to_none_is_taken_out_and_brought_back(lab: Lab) -> None:
    agents, by_role = await formed(lab, 3, Network.new(3))
    master = by_role["master"]
    worker = by_role["worker"]
    await master.machine.run("kairos", "role", "set", worker.name, "none")

    def without(seen: list[Status]) -> bool:
        return seen[0]["me"]["role"] == "none" and seen[0]["phase"] == "ready"

    await until([worker], without, FORMED, "it has no role")
    await eventually(master, [agent.name for agent in others_of(agents, worker)])
    await master.machine.run("kairos", "role", "set", worker.name, "auto")
    await until(agents, all_ready, FORMED, "it is back")
    await eventually(master, [agent.name for agent in agents])


async def test_leaving_goes_on_after_the_agent_was_killed_in_the_middle(lab: Lab) -> None:
    agents, by_role = await formed(lab, 3, Network.new(3))
    master, worker = by_role["master"], by_role["worker"]
    # Nobody can take it out while the master's agent is away: so it is certainly in the middle.
    await master.stop()
    asked = await worker.machine.run("kairos", "leave", "--timeout", "1", check=False)
    assert "not out yet" in asked.stderr
    await worker.stop()
    await master.start()
    await worker.start()
    await eventually(master, [agent.name for agent in others_of(agents, worker)])
    await leaves_no_trace(worker)


async def test_masters_that_are_killed_for_good_are_replaced_and_the_first_is_taken_out(lab: Lab) -> None:
    ha = {"enable": True, "master_nodes": 2, "replace_after": 10}
    agents, by_role = await formed(lab, 5, Network.new(5, 2), auto={"ha": ha})
    first = by_role["master/clusterinit"]
    await first.machine.power_off()
    rest = others_of(agents, first)

    def three_masters(seen: list[Status]) -> bool:
        return all_ready(seen) and [status["me"]["role"] for status in seen].count("master/ha") == 3

    seen = await until(rest, three_masters, FORMED, "a worker takes its place")
    masters = [agent for agent, status in zip(rest, seen, strict=True) if status["me"]["role"] == "master/ha"]
    assert {status["cluster_id"] for status in seen} == {seen[0]["cluster_id"]}
    await masters[0].machine.run("k3s", "kubectl", "delete", "node", first.name)
    for master in masters:
        await eventually(master, [agent.name for agent in rest])
        assert "server: https://" in (await master.machine.run("kairos", "get-kubeconfig")).stdout
