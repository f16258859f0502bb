"""What namespaces cannot show: clocks that disagree, Debian's kernel, systemd, a reboot and a power cut.

One cluster for all of it, since making it takes a minute or two; each test leaves it whole.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from kairos_core.testing.agents import Network, Status, agree, until
from kairos_core.testing.lab import LabError
from kairos_core.testing.vm import VirtualAgent, VirtualLab

pytestmark = [pytest.mark.vm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
DAY = 86400.0
DELAY_MS, LOSS = 20, 1
SERVER = "/var/lib/rancher/k3s/server"

FORMED = 600.0
"""Seconds for a cluster to stand. Without KVM the start of Python takes most of it; nothing here is about speed."""


async def until_all(
    agents: Sequence[VirtualAgent], holds: Callable[[list[Status]], bool], timeout: float, what: str
) -> list[Status]:
    """Wait as `until` does, and show what the agents said when it fails."""
    try:
        return await until(agents, holds, timeout, what)
    except LabError as error:
        journals = [f"== {agent.name}\n{await agent.machine.journal('kairos')}" for agent in agents]
        raise LabError("\n".join([str(error), *journals])) from None


def is_whole(seen: Sequence[Status]) -> bool:
    """Whether all agree that Kubernetes is ready on all."""
    return agree(seen) and all(machine["engine"] == "ready" for machine in seen[0]["machines"])


def character(status: Status) -> tuple[str, str, str, str]:
    """What must survive a reboot."""
    me = status["me"]
    return me["peer"], me["address"], me["role"], status["cluster_id"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agents() -> AsyncIterator[list[VirtualAgent]]:
    """Three machines with 20 ms and 1 % loss between them, the last with a clock that is a day ahead: one cluster."""
    projects = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
    async with VirtualLab(projects, delay_ms=DELAY_MS, loss=LOSS) as lab:
        machines = await lab.boot("node-1", "node-2", "node-3", clocks=(0, 0, DAY))
        made = [VirtualAgent(machine) for machine in machines]
        token = (await machines[0].run("kairos", "generate-token", "--nodes", "3")).stdout.strip()
        for agent in made:
            await agent.install(Network(None, token=token).cloud_config())
        for agent in made:
            await agent.start()
        await until_all(made, is_whole, FORMED, "a cluster")
        yield made


async def whole(agents: Sequence[VirtualAgent]) -> list[Status]:
    return await until_all(agents, is_whole, FORMED, "the cluster is whole")


async def test_three_machines_become_one_cluster_with_one_ledger(agents: list[VirtualAgent]) -> None:
    seen = await whole(agents)
    assert sorted(status["me"]["role"] for status in seen) == ["master", "worker", "worker"]
    assert len({status["cluster_id"] for status in seen}) == 1
    assert len({status["digest"] for status in seen}) == 1
    assert all("at most one cluster under any partition" in status["guarantee"] for status in seen)
    begun = [(await agent.machine.run("test", "-d", SERVER, check=False)).code == 0 for agent in agents]
    assert begun == [status["me"]["role"] == "master" for status in seen]


async def test_the_kernel_and_the_clocks_are_the_machines_own(agents: list[VirtualAgent]) -> None:
    kernels = {(await agent.machine.run("uname", "-r")).stdout.strip() for agent in agents}
    assert len(kernels) == 1
    assert kernels != {Path("/proc/sys/kernel/osrelease").read_text().strip()}
    times = [float((await agent.machine.run("date", "+%s")).stdout) for agent in agents]
    assert DAY - 120 < times[2] - times[0] < DAY + 120
    seen = await whole(agents)
    warned = [[warning for warning in status["warnings"] if "the clock of this machine" in warning] for status in seen]
    assert [len(warnings) for warnings in warned] == [0, 0, 1]
    assert "ahead of the network's" in warned[2][0]


async def test_nodes_ping_each_other_through_the_tunnel(agents: list[VirtualAgent]) -> None:
    addresses = [status["me"]["address"] for status in await whole(agents)]
    for agent, own in zip(agents, addresses, strict=True):
        for address in set(addresses) - {own}:
            route = (await agent.machine.run("ip", "route", "get", address)).stdout
            assert "dev kairos0" in route
            answer = await agent.machine.run("ping", "-n", "-c5", "-W5", address, check=False)
            times = [float(time) for time in re.findall(r"time=([\d.]+)", answer.stdout)]
            assert len(times) >= 3, answer.stdout
            assert min(times) >= 2 * DELAY_MS


async def test_the_agent_is_the_service_that_kairos_installed(agents: list[VirtualAgent]) -> None:
    await whole(agents)
    for agent in agents:
        shown = await agent.machine.run(
            "systemctl", "show", "kairos", "--property=Type,ActiveState,UnitFileState,StatusText"
        )
        assert {"Type=notify", "ActiveState=active", "UnitFileState=enabled"} <= set(shown.stdout.split("\n"))
        assert "StatusText=node 12D3KooW" in shown.stdout
        again = await agent.machine.run("kairos", "install", timeout=120.0)
        assert again.stdout == "nothing to change\n"


async def test_the_journal_is_to_be_read_and_holds_no_secret(agents: list[VirtualAgent]) -> None:
    for agent, status in zip(agents, await whole(agents), strict=True):
        config = (await agent.machine.run("cat", "/etc/kairos/kairos.yaml")).stdout
        [token] = re.findall(r"network_token: (\S+)", config)
        journal = (await agent.machine.run("journalctl", "--no-pager", "--boot")).stdout
        assert f"is running as {status['me']['peer']}" in journal
        for secret in (token, token[:40], "K10"):
            assert secret not in journal
        logs = await agent.machine.run("kairos", "engine", "logs", timeout=120.0)
        assert "stand-in" in logs.stdout
        assert "K10" not in logs.stdout


async def test_the_engine_is_a_service_of_systemd(agents: list[VirtualAgent]) -> None:
    for agent, status in zip(agents, await whole(agents), strict=True):
        unit = "k3s.service" if status["me"]["role"] == "master" else "k3s-agent.service"
        assert (await agent.machine.run("systemctl", "is-active", unit)).stdout.strip() == "active"
        assert (await agent.machine.run("systemctl", "is-enabled", unit)).stdout.strip() == "enabled"
        assert "stand-in" in await agent.machine.journal(unit)
        failed = await agent.machine.run("systemctl", "list-units", "--failed", "--plain", "--no-legend")
        assert failed.stdout.strip() == ""
    [master] = [a for a, status in zip(agents, await whole(agents), strict=True) if status["me"]["role"] == "master"]
    listed = (await master.machine.run("k3s", "kubectl", "get", "nodes")).stdout
    assert all(agent.name in listed for agent in agents)


async def test_a_machine_whose_clock_is_wrong_is_what_it_was_after_a_reboot(agents: list[VirtualAgent]) -> None:
    before = await whole(agents)
    await agents[2].machine.reboot()
    after = await whole(agents)
    assert [character(status) for status in after] == [character(status) for status in before]


async def test_the_master_is_what_it_was_after_a_power_cut(agents: list[VirtualAgent]) -> None:
    before = await whole(agents)
    [master] = [agent for agent, status in zip(agents, before, strict=True) if status["me"]["role"] == "master"]
    await master.machine.reset()
    after = await whole(agents)
    assert [character(status) for status in after] == [character(status) for status in before]
