"""The life of a cluster: other ways to be one, and what happens to its machines in years."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence

import pytest
import yaml

from kairos_core.testing.agents import Agent, Network, Status, install_engine, statuses, until
from kairos_core.testing.lab import Lab

pytestmark = pytest.mark.system

FORMED = 60.0
"""Seconds for a cluster to stand. Measured: 2 to 5 s; the rest is for a slow machine."""

EIP = "192.168.77.200"


def all_ready(seen: list[Status]) -> bool:
    return all(status["me"]["engine"] == "ready" for status in seen)


def roles(seen: Sequence[Status]) -> list[str]:
    return sorted(status["me"]["role"] for status in seen)


def character(status: Status) -> tuple[str, str, str, str]:
    """What must survive a restart."""
    me = status["me"]
    return me["peer"], me["address"], me["role"], status["cluster_id"]


async def started(lab: Lab, nodes: int, network: Network, extra: str = "", **p2p: object) -> list[Agent]:
    """Start agents on this many new machines, all at once; `extra` is appended to the configuration of each."""
    install_engine(lab)
    await asyncio.gather(*[lab.add(f"node-{number + 1}") for number in range(nodes)])
    agents = [Agent(machine) for machine in lab.machines]
    for agent in agents:
        agent.configure(network.cloud_config(**p2p) + extra)
    await asyncio.gather(*[agent.start() for agent in agents])
    return agents


async def k3s_arguments(agent: Agent) -> str:
    """Return the command line of the k3s of a machine."""
    listed = await agent.machine.run("ps", "-ww", "-eo", "args")
    return next(line for line in listed.stdout.splitlines() if " server " in f"{line} " or " agent " in f"{line} ")


async def until_listed(master: Agent, nodes: Sequence[Agent]) -> None:
    """Wait until a master lists these nodes: what one server was told last, another knows a moment later."""
    deadline = asyncio.get_running_loop().time() + FORMED
    listed = ""
    while not all(node.name in listed for node in nodes):
        assert asyncio.get_running_loop().time() < deadline, f"{master.name} lists only:\n{listed}"
        await asyncio.sleep(0.2)
        listed = (await master.machine.run("k3s", "kubectl", "get", "nodes", check=False)).stdout


async def until_members(master: Agent, nodes: Sequence[Agent]) -> None:
    """Wait until these nodes, and no others, are etcd's members: stand-ins copy that from each other in turn."""
    deadline = asyncio.get_running_loop().time() + FORMED
    members: list[str] = []
    while sorted(members) != sorted(node.name for node in nodes):
        assert asyncio.get_running_loop().time() < deadline, f"{master.name} has only the members {members}"
        await asyncio.sleep(0.2)
        told = await master.machine.run("k3s", "kubectl", "get", "--raw", "/stand-in/members", check=False)
        members = list(json.loads(told.stdout)) if told.code == 0 else []


async def k3s_pid(agent: Agent) -> str:
    [file] = [agent.machine.path(f"/run/kairos/{name}.pid") for name in ("k3s", "k3s-agent")
              if agent.machine.path(f"/run/kairos/{name}.pid").exists()]  # fmt: skip
    return file.read_text().split()[0]


async def test_three_masters_and_two_workers_survive_the_loss_of_a_master(lab: Lab) -> None:
    agents = await started(lab, 5, Network.new(5, 2))
    seen = await until(agents, all_ready, FORMED, "a cluster with three masters")
    assert roles(seen) == ["master/clusterinit", "master/ha", "master/ha", "worker", "worker"]
    by_role = {status["me"]["role"]: agent for agent, status in zip(agents, seen, strict=True)}
    begun = [agent for agent in agents if "--cluster-init" in await k3s_arguments(agent)]
    assert begun == [by_role["master/clusterinit"]]
    await by_role["master/clusterinit"].machine.power_off()
    left = [agent for agent in agents if agent is not begun[0]]
    # Any other master still gives out the kubeconfig, of a server that answers.
    other = by_role["master/ha"]
    await until_listed(other, agents)
    kubeconfig = (await other.machine.run("kairos", "get-kubeconfig")).stdout
    assert begun[0].name not in kubeconfig
    assert all_ready([status for status in await statuses(left) if status])


async def test_a_first_master_whose_node_is_deleted_by_hand_joins_again_and_begins_nothing(lab: Lab) -> None:
    agents = await started(lab, 3, Network.new(3, 2))
    seen = await until(agents, all_ready, FORMED, "a cluster with three masters")
    by_role = {status["me"]["role"]: agent for agent, status in zip(agents, seen, strict=True)}
    first, other = by_role["master/clusterinit"], by_role["master/ha"]
    await until_listed(other, agents)
    assert "--cluster-init" in await k3s_arguments(first), "what runs was not started afresh"
    pid = await k3s_pid(first)
    await other.machine.run("k3s", "kubectl", "delete", "node", first.name)
    deadline = asyncio.get_running_loop().time() + FORMED
    while await k3s_pid(first) == pid:  # its supervisor starts it again
        assert asyncio.get_running_loop().time() < deadline, "k3s went on without its node"
        await asyncio.sleep(0.2)
    await until(agents, all_ready, FORMED, "it is back")
    assert "--server=" in await k3s_arguments(first)
    for master in agents:
        await until_members(master, agents)


async def test_masters_meet_in_an_external_database(lab: Lab) -> None:
    database = lab.programs / "cluster.db"
    ha = {"enable": True, "master_nodes": 1, "external_db": f"sqlite://{database}"}
    agents = await started(lab, 3, Network.new(3), auto={"ha": ha})
    seen = await until(agents, all_ready, FORMED, "a cluster on a database")
    assert roles(seen) == ["master/clusterinit", "master/ha", "worker"]
    for agent in agents:
        arguments = await k3s_arguments(agent)
        assert "--cluster-init" not in arguments
        assert str(database) not in arguments, "it may hold a password"
    masters = [agent for agent, status in zip(agents, seen, strict=True) if status["me"]["role"] != "worker"]
    for master in masters:
        assert "--tls-san=" in await k3s_arguments(master)
        await until_listed(master, agents)


async def test_with_an_elastic_ip_and_no_vpn_workers_join_through_it(lab: Lab) -> None:
    extra = yaml.safe_dump({"kubevip": {"eip": EIP}})
    agents = await started(lab, 3, Network.new(3), extra, vpn={"create": False, "use": False})

    def has_master(seen: list[Status]) -> bool:
        return any(status["me"]["role"] == "master" and status["me"]["engine"] == "ready" for status in seen)

    seen = await until(agents, has_master, FORMED, "a master")
    [master] = [agent for agent, status in zip(agents, seen, strict=True) if status["me"]["role"] == "master"]
    manifests = master.machine.path("/var/lib/rancher/k3s/server/manifests")
    assert EIP in (manifests / "kubevip.yaml").read_text()
    assert f"--tls-san={EIP}" in await k3s_arguments(master)
    # What the pod of kube-vip would do: nothing here runs pods.
    await master.machine.run("ip", "address", "add", f"{EIP}/32", "dev", "eth0")
    seen = await until(agents, all_ready, FORMED, "workers that joined through the elastic IP")
    assert roles(seen) == ["master", "worker", "worker"]
    for agent in agents:
        assert "--node-ip=192.168.77." in await k3s_arguments(agent)
        assert f"--node-ip={EIP}" not in await k3s_arguments(agent)
        assert (await agent.machine.run("ip", "link", "show", "kairos0", check=False)).code != 0
    assert f"https://{EIP}:6443" in (await master.machine.run("kairos", "get-kubeconfig")).stdout


async def test_another_elastic_ip_is_taken_by_all_at_the_next_start(lab: Lab) -> None:
    other, network = "192.168.77.201", Network.new(2)
    agents = await started(lab, 2, network, yaml.safe_dump({"kubevip": {"eip": EIP}}))

    def has_master(seen: list[Status]) -> bool:
        return any(status["me"]["role"] == "master" and status["me"]["engine"] == "ready" for status in seen)

    seen = await until(agents, has_master, FORMED, "a master")
    [master] = [agent for agent, status in zip(agents, seen, strict=True) if status["me"]["role"] == "master"]
    await master.machine.run("ip", "address", "add", f"{EIP}/32", "dev", "eth0")
    await until(agents, all_ready, FORMED, "a cluster behind the first elastic IP")
    await master.machine.run("ip", "address", "delete", f"{EIP}/32", "dev", "eth0")
    for agent in agents:
        await agent.stop()
        agent.configure(network.cloud_config() + yaml.safe_dump({"kubevip": {"eip": other}}))
        await agent.start()
    await until([master], has_master, FORMED, "the master again")
    await master.machine.run("ip", "address", "add", f"{other}/32", "dev", "eth0")
    await until(agents, all_ready, FORMED, "a cluster behind the second")
    assert f"--tls-san={other}" in await k3s_arguments(master)
    assert f"--tls-san={EIP}" not in await k3s_arguments(master)
    manifest = (master.machine.path("/var/lib/rancher/k3s/server/manifests") / "kubevip.yaml").read_text()
    assert other in manifest
    assert EIP not in manifest
    assert f"https://{other}:6443" in (await master.machine.run("kairos", "get-kubeconfig")).stdout
    [worker] = [agent for agent in agents if agent is not master]
    environment = worker.machine.path("/etc/rancher/k3s").glob("*.env")
    assert any(f"K3S_URL=https://{other}:6443" in file.read_text().replace('"', "") for file in environment)


async def test_all_machines_that_lose_power_at_once_are_what_they_were(lab: Lab) -> None:
    agents = await started(lab, 4, Network.new(4, 1))
    before = await until(agents, all_ready, FORMED, "a cluster")
    await asyncio.gather(*[agent.machine.power_off() for agent in agents])
    await asyncio.gather(*[agent.machine.power_on() for agent in agents])
    await asyncio.gather(*[agent.start() for agent in agents])
    after = await until(agents, all_ready, FORMED, "the cluster again")
    assert [character(status) for status in after] == [character(status) for status in before]


async def test_changed_arguments_restart_k3s_where_they_changed_and_nowhere_else(lab: Lab) -> None:
    network = Network.new(3)
    agents = await started(lab, 3, network)
    before = await until(agents, all_ready, FORMED, "a cluster")
    pids = [await k3s_pid(agent) for agent in agents]
    changed = next(agent for agent, status in zip(agents, before, strict=True) if status["me"]["role"] == "worker")
    changed.configure(network.cloud_config() + yaml.safe_dump({"k3s-agent": {"args": ["--node-label=line=7"]}}))
    for agent in agents:  # an agent that starts again touches nothing that is as it should be
        await agent.stop()
        await agent.start()
    await until(agents, all_ready, FORMED, "the cluster again")
    now = [await k3s_pid(agent) for agent in agents]
    assert [pid != was for pid, was in zip(now, pids, strict=True)] == [agent is changed for agent in agents]
    assert "--node-label=line=7" in await k3s_arguments(changed)


async def test_a_worker_whose_disk_was_wiped_joins_anew(lab: Lab) -> None:
    agents = await started(lab, 3, Network.new(3))
    before = await until(agents, all_ready, FORMED, "a cluster")
    [wiped, *_] = [a for a, status in zip(agents, before, strict=True) if status["me"]["role"] == "worker"]
    was = before[agents.index(wiped)]
    config = wiped.machine.path("/etc/kairos/kairos.yaml").read_text()
    await wiped.machine.power_off()
    shutil.rmtree(wiped.machine.directory / "disk/var/lib")
    await wiped.machine.power_on()
    wiped.configure(config)
    await wiped.start()
    [now] = await until([wiped], all_ready, FORMED, "the wiped machine joins")
    assert now["me"]["role"] == "worker"
    assert now["me"]["peer"] != was["me"]["peer"], "its identity went with the disk"
    assert now["cluster_id"] == was["cluster_id"]
