"""Agents from an environment of their own: with a third party's discovery, and without some of the built-in plugins."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kairos_core.testing.agents import Agent, Network, Status, install_engine, until
from kairos_core.testing.lab import Lab

pytestmark = pytest.mark.system

FORMED = 60.0


async def machines_with_agents(lab: Lab, count: int, venv: Path) -> list[Agent]:
    install_engine(lab)
    await asyncio.gather(*[lab.add(f"node-{number + 1}") for number in range(count)])
    return [Agent(machine, str(venv / "bin" / "kairos")) for machine in lab.machines]


def is_formed(seen: list[Status]) -> bool:
    return all(status["me"]["engine"] == "ready" for status in seen)


def uninstall(venv: Path, *distributions: str) -> None:
    argv = [str(venv / "bin/python"), "-m", "pip", "--disable-pip-version-check", "uninstall", "-qy", *distributions]
    subprocess.run(argv, check=True, capture_output=True)


def plugin_states(status: Status) -> dict[str, str]:
    return {row["distribution"]: row["chosen"] for row in status["plugins"]}


async def test_nodes_that_a_third_partys_discovery_brings_together_form_a_cluster(
    lab: Lab, outside_venv: Path, install_outside_plugin: Callable[[Path], None]
) -> None:
    install_outside_plugin(outside_venv)
    uninstall(outside_venv, "kairos-discovery-mdns", "kairos-discovery-dht")
    agents = await machines_with_agents(lab, 2, outside_venv)
    network = Network.new(2)
    for agent, other in zip(agents, reversed(agents), strict=True):
        agent.machine.path("/etc/kairos/peers").write_text(f"{other.machine.ipv4}:7373\n")
        agent.configure(network.cloud_config(file_discovery={"path": "/etc/kairos/peers"}))
        await agent.start()
    seen = await until(agents, is_formed, FORMED, "a cluster of nodes found by a file")
    assert plugin_states(seen[0])["acme-file-discovery"]
    assert "kairos-discovery-mdns" not in plugin_states(seen[0])


async def test_nodes_without_vpn_and_dht_form_a_cluster_on_their_lan_addresses(lab: Lab, outside_venv: Path) -> None:
    uninstall(outside_venv, "kairos-net-vpn", "kairos-discovery-dht")
    agents = await machines_with_agents(lab, 3, outside_venv)
    network = Network.new(3)
    for agent in agents:
        agent.configure(network.cloud_config())
        await agent.start()
    seen = await until(agents, is_formed, FORMED, "a cluster without VPN")
    assert sorted(status["me"]["role"] for status in seen) == ["master", "worker", "worker"]
    assert [status["me"]["address"] for status in seen] == [agent.machine.ipv4 for agent in agents]
    assert any("no plugin offers it; nodes use their LAN addresses" in warning for warning in seen[0]["warnings"])
    listed = (await agents[0].machine.run("kairos", "plugins", "list")).stdout
    assert "vpn" in listed, "the environment of the tests still has it: only the agents' own lacks it"
    links = (await agents[0].machine.run("ip", "-brief", "link")).stdout
    assert "kairos0" not in links


async def test_an_agent_without_an_engine_only_coordinates_and_nobody_waits_for_it(
    lab: Lab, outside_venv: Path
) -> None:
    uninstall(outside_venv, "kairos-engine-k3s", "kairos-engine-k0s")
    (bare,) = await machines_with_agents(lab, 1, outside_venv)
    others = [Agent(await lab.add(f"full-{number}")) for number in range(2)]
    network = Network.new(2)
    for agent in (bare, *others):
        agent.configure(network.cloud_config())
        await agent.start()
    await until(others, is_formed, FORMED, "a cluster beside a node without engine")
    (seen,) = await until([bare], lambda seen: seen[0]["phase"] == "ready", 10, "the node without engine")
    assert seen["me"]["role"] == "none"
    assert seen["me"]["message"] == "takes no role: no Kubernetes engine is installed"
