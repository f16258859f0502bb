"""Stories of real agents on real machines: they share a token and nothing else."""

import asyncio
import json
import signal
import time
from collections.abc import Iterable
from typing import Any

import pytest

from kairos_core.testing.agents import Agent, Network, Status, install_engine, launch, statuses, until
from kairos_core.testing.demo import fetch_kubeconfig
from kairos_core.testing.lab import Lab
from kairos_core.testing.mesh import ping, reach

pytestmark = pytest.mark.system

FORMED = 60.0
"""Seconds for a cluster to stand. Measured: 2 s; the rest is for a slow machine."""

RECOVERED = 10.0
"""Seconds for a restarted agent to be what it was: what we promise."""


async def cluster(lab: Lab, nodes: int, ha_masters: int = 0) -> tuple[list[Agent], Network]:
    """Start agents on this many new machines, all at once, and wait until Kubernetes is ready on all."""
    install_engine(lab)
    await asyncio.gather(*[lab.add(f"node-{number + 1}") for number in range(nodes)])
    network = Network.new(nodes, ha_masters)
    agents = await launch(lab.machines, network)
    await until(agents, all_ready, FORMED, "a cluster")
    return agents, network


async def joins(lab: Lab, name: str, network: Network, **p2p: Any) -> Agent:
    agent = Agent(await lab.add(name))
    agent.configure(network.cloud_config(**p2p))
    await agent.start()
    return agent


def all_ready(seen: list[Status]) -> bool:
    return all(status["me"]["engine"] == "ready" for status in seen)


def all_see(count: int, seen: list[Status]) -> bool:
    return all(sum(machine["alive"] for machine in status["machines"]) == count for status in seen)


def roles(seen: Iterable[Status | None]) -> list[str]:
    return sorted(status["me"]["role"] or "" for status in seen if status)


def character(status: Status) -> tuple[str, str, str]:
    """What must survive a restart."""
    return status["me"]["peer"], status["me"]["address"], status["me"]["role"]


async def kubernetes_nodes(agent: Agent) -> str:
    return (await agent.machine.run("k3s", "kubectl", "get", "nodes", check=False)).stdout


async def test_five_machines_form_one_cluster_and_a_sixth_joins_as_a_worker(lab: Lab) -> None:
    agents, network = await cluster(lab, 5)
    seen = await until(agents, lambda seen: all_see(5, seen), 10, "everybody sees everybody")
    assert roles(seen) == ["master", *["worker"] * 4]
    assert len({status["cluster_id"] for status in seen}) == 1

    sixth = await joins(lab, "node-6", network)
    late = await until([*agents, sixth], lambda seen: all_ready(seen) and all_see(6, seen), 30, "the sixth joins")
    assert late[-1]["me"]["role"] == "worker"
    assert [character(status) for status in late[:-1]] == [character(status) for status in seen]

    addresses = {agent.machine: status["me"]["address"] for agent, status in zip([*agents, sixth], late, strict=True)}
    await reach(addresses, timeout=10)
    [master] = [agent for agent, status in zip(agents, seen, strict=True) if status["me"]["role"] == "master"]
    listed = await kubernetes_nodes(master)
    assert all(f"node-{number}" in listed for number in range(1, 7))


async def test_pings_go_through_the_tunnel_and_not_past_it(lab: Lab) -> None:
    agents, _ = await cluster(lab, 2)
    [own, address] = [status["me"]["address"] for status in await statuses(agents) if status]
    assert "dev kairos0" in (await agents[0].machine.run("ip", "route", "get", address)).stdout
    await reach({agents[0].machine: own, agents[1].machine: address}, 5)
    # Without the tunnel the address is nobody's: the bridge does not carry it.
    await agents[0].machine.run("ip", "link", "set", "kairos0", "down")
    assert await ping(agents[0].machine, address) is None


async def test_every_agent_that_is_killed_comes_back_as_what_it_was(lab: Lab) -> None:
    agents, _ = await cluster(lab, 5, ha_masters=2)
    before = [status for status in await statuses(agents) if status]
    assert roles(before) == ["master/clusterinit", "master/ha", "master/ha", "worker", "worker"]
    for agent, was in zip(agents, before, strict=True):
        await agent.stop(signal.SIGKILL)
        began = time.monotonic()
        await agent.start()
        [now] = await until([agent], all_ready, RECOVERED, f"{agent.machine.name} is back")
        assert character(now) == character(was)
        assert time.monotonic() - began < RECOVERED
        other = next(other for other in agents if other is not agent)
        other_address = before[agents.index(other)]["me"]["address"]
        await reach({agent.machine: now["me"]["address"], other.machine: other_address}, RECOVERED)
    assert roles(await statuses(agents)) == roles(before)


async def test_a_machine_that_lost_power_comes_back_as_what_it_was(lab: Lab) -> None:
    agents, _ = await cluster(lab, 3)
    before = [status for status in await statuses(agents) if status]
    for agent, was in zip(agents, before, strict=True):
        await agent.machine.power_off()
        await agent.machine.power_on()
        await agent.start()
        [now] = await until([agent], all_ready, 30, f"{agent.machine.name} is back")
        assert character(now) == character(was)


async def test_an_operator_reaches_every_node_and_gets_the_kubeconfig(lab: Lab) -> None:
    agents, network = await cluster(lab, 3)
    laptop = await lab.add("laptop")
    kubeconfig = await fetch_kubeconfig(laptop, network)
    for status in await statuses(agents):
        assert status is not None
        answer = await laptop.run("ping", "-n", "-c3", "-i0.3", "-W1", status["me"]["address"], check=False)
        assert answer.code == 0, answer.stdout
    laptop.path("/run/kubeconfig").write_text(kubeconfig)
    listed = (await laptop.run("k3s", "kubectl", "--kubeconfig", "/run/kubeconfig", "get", "nodes")).stdout
    assert all(agent.machine.name in listed for agent in agents)
    assert "laptop" not in listed
    seen = [status for status in await statuses(agents) if status]
    assert roles(seen) == ["master", "worker", "worker"]


async def test_without_a_cluster_there_is_no_kubeconfig_and_the_command_says_so(lab: Lab) -> None:
    install_engine(lab)
    alone = await joins(lab, "alone", Network.new(2))
    await until([alone], lambda seen: True, 10, "the agent answers")
    answer = await alone.machine.run("kairos", "get-kubeconfig", check=False)
    assert (answer.code, answer.stdout) == (1, "")
    assert len(answer.stderr.strip().splitlines()) == 1


async def test_forced_roles_are_honoured_and_none_runs_no_kubernetes(lab: Lab) -> None:
    install_engine(lab)
    network = Network.new(2)  # one that takes no role does not count
    wishes = {"boss": "master", "hand": "worker", "guest": "none"}
    agents = [await joins(lab, name, network, role=role) for name, role in wishes.items()]

    def settled(seen: list[Status]) -> bool:
        return all_ready(seen[:2]) and all_see(3, seen)

    seen = await until(agents, settled, FORMED, "forced roles")
    assert [status["me"]["role"] for status in seen] == ["master", "worker", "none"]
    assert seen[2]["me"]["engine"] in ("", "absent")
    assert "guest" not in await kubernetes_nodes(agents[0])
    assert (await agents[2].machine.run("pgrep", "-f", "k3s", check=False)).code == 1


@pytest.mark.parametrize("attempt", range(3))
async def test_two_machines_that_start_together_never_both_initialise(lab: Lab, attempt: int) -> None:
    agents, _ = await cluster(lab, 2)
    seen = await statuses(agents)
    assert roles(seen) == ["master", "worker"]


async def test_half_a_network_waits_and_the_whole_forms_one_cluster(lab: Lab) -> None:
    install_engine(lab)
    machines = [await lab.add(f"node-{number + 1}") for number in range(4)]
    await lab.partition(machines[:2], machines[2:])
    agents = await launch(machines, Network.new(4), minimum_nodes=2)
    await until(agents, lambda seen: all_see(2, seen), 15, "each half sees itself")
    await asyncio.sleep(3)  # what is awaited is that nothing happens
    assert roles(await statuses(agents)) == [""] * 4
    await lab.heal()
    seen = await until(agents, all_ready, FORMED, "one cluster after the halves met")
    assert roles(seen) == ["master", "worker", "worker", "worker"]
    assert len({status["cluster_id"] for status in seen}) == 1


async def test_a_machine_that_may_be_alone_makes_a_cluster_alone(lab: Lab) -> None:
    [agent], _ = await cluster(lab, 1)
    [status] = await statuses([agent])
    assert status is not None
    assert status["me"]["role"] == "master"
    answer = await agent.machine.run("kairos", "get-kubeconfig")
    assert "clusters:" in answer.stdout


async def test_a_stranger_with_another_token_stays_outside(lab: Lab) -> None:
    agents, _ = await cluster(lab, 2)
    stranger = await joins(lab, "stranger", Network.new(2))
    [alone] = await until([stranger], lambda seen: True, 10, "the stranger answers")
    await asyncio.sleep(3)  # what is awaited is that nothing happens
    [alone] = await until([stranger], lambda seen: True, 10, "the stranger answers")
    assert [machine["name"] for machine in alone["machines"]] == ["stranger"]
    assert all_see(2, [status for status in await statuses(agents) if status])


async def test_the_status_command_prints_what_the_agent_says(lab: Lab) -> None:
    [agent], _ = await cluster(lab, 1)
    printed = json.loads((await agent.machine.run("kairos", "status", "--json")).stdout)
    told = await agent.status()
    assert told is not None
    assert printed["me"]["peer"] == told["me"]["peer"]
    assert set(printed) >= {"me", "phase", "machines", "milestones", "drops"}


async def test_no_secret_stands_in_a_process_list_or_a_log(lab: Lab) -> None:
    _, network = await cluster(lab, 2)
    laptop = await lab.add("laptop")
    await fetch_kubeconfig(laptop, network)
    token = network.token[40:80]
    for machine in lab.machines:
        arguments = (await machine.run("ps", "-eo", "args", "-ww")).stdout
        logs = "".join(log.read_text(errors="replace") for log in (machine.directory / "log").glob("*.log"))
        assert "kairos" in arguments
        assert token not in arguments + logs
        join_token = machine.directory / "disk/var/lib/rancher/k3s/server/node-token"
        if join_token.exists():
            assert join_token.read_text().strip() not in arguments + logs
