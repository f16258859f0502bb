"""A sole master is lost for good: the operator asks for a new generation, and the others go on."""

import asyncio
import json

import pytest

from kairos_core.testing.agents import Agent, Network, Status, install_engine, launch, statuses, until
from kairos_core.testing.lab import Lab

pytestmark = pytest.mark.system

FORMED = 60.0
"""Seconds for a cluster to stand. Measured: 2 to 5 s; the rest is for a slow machine."""


def all_ready(seen: list[Status]) -> bool:
    return all(status["me"]["engine"] == "ready" for status in seen)


async def doctor(agent: Agent) -> tuple[int, dict[str, str]]:
    """Return the exit code of `kairos doctor`, and its findings as verdicts by check."""
    answer = await agent.machine.run("kairos", "doctor", "--json", check=False)
    return answer.code, {finding["check"]: finding["verdict"] for finding in json.loads(answer.stdout)}


async def test_a_new_generation_takes_the_place_of_a_master_that_is_lost_for_good(lab: Lab) -> None:
    install_engine(lab)
    await asyncio.gather(*[lab.add(f"node-{number + 1}") for number in range(3)])
    agents = await launch(lab.machines, Network.new(3))
    before = await until(agents, all_ready, FORMED, "a cluster")
    code, verdicts = await doctor(agents[0])
    assert (code, set(verdicts.values())) == (0, {"ok"})

    refused = await agents[0].machine.run("kairos", "cluster", "new-generation", "--yes", check=False)
    assert refused.code == 1
    assert "lives" in refused.stderr
    [master] = [a for a, status in zip(agents, before, strict=True) if status["me"]["role"] == "master"]
    others = [agent for agent in agents if agent is not master]
    await master.machine.power_off()
    name = master.machine.name
    await until(
        others,
        lambda seen: all(not m["alive"] for s in seen for m in s["machines"] if m["name"] == name),
        30,
        "the master's silence is noticed",
    )
    code, verdicts = await doctor(others[0])
    assert (code, verdicts["first master"]) == (1, "wrong")
    asked = await others[0].machine.run("sh", "-c", "echo n | kairos cluster new-generation", check=False)
    assert asked.code == 1
    assert "nothing was changed" in asked.stderr
    answer = await others[0].machine.run("kairos", "cluster", "new-generation", "--yes", "--json")
    assert json.loads(answer.stdout) == {"generation": 2}

    def moved(seen: list[Status]) -> bool:
        clusters = {status["cluster_id"] for status in seen}
        return all_ready(seen) and len(clusters) == 1 and not clusters & {before[0]["cluster_id"], None}

    after = await until(others, moved, FORMED, "a new cluster")
    assert sorted(status["me"]["role"] for status in after) == ["master", "worker"]
    assert {status["generation"] for status in after} == {2}
    [new] = [a for a, status in zip(others, after, strict=True) if status["me"]["role"] == "master"]
    listed = (await new.machine.run("k3s", "kubectl", "get", "nodes")).stdout
    assert all(agent.machine.name in listed for agent in others)
    assert name not in listed

    # Should the old one come back after all, it is no second cluster, and its data is kept.
    await master.machine.power_on()
    await master.start()
    [back] = await until([master], lambda seen: seen[0]["generation"] == 2, 30, "it learns of the generation")
    [back] = await until([master], lambda seen: "kairos cluster adopt" in seen[0]["me"]["message"], 30, "it waits")
    assert back["me"]["role"] in (None, "worker")
    assert (master.machine.directory / "disk/var/lib/rancher/k3s/server").exists()
    assert [status["cluster_id"] for status in await statuses(others) if status] == [after[0]["cluster_id"]] * 2
    await master.machine.run("kairos", "cluster", "adopt", after[0]["cluster_id"])
    [joined] = await until([master], all_ready, FORMED, "it joins as a worker")
    assert joined["me"]["role"] == "worker"
