"""Bad input and faults, on real agents: each is dropped or reported under its name, and nobody crashes."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kairos_core.api.client import ApiClient
from kairos_core.testing.agents import SOCKET, Agent, Network, Status, install_engine, launch, until
from kairos_core.testing.lab import Lab

pytestmark = pytest.mark.system

FORMED = 60.0
"""Seconds for a cluster to stand. Measured: 2 to 5 s; the rest is for a slow machine."""

PORT = 7373
DAY = 86_400
HERE = Path(__file__).parent

CLOCK_OFF = """#!{python}
# The agent of a machine whose clock is off: everything in this process reads the wrong time.
import sys, time
right = time.time
time.time = lambda: right() + ({seconds})
from kairos_core.cli import main
sys.exit(main())
"""


async def cluster(lab: Lab, nodes: int, **p2p: Any) -> tuple[list[Agent], Network]:
    install_engine(lab)
    await asyncio.gather(*[lab.add(f"node-{number + 1}") for number in range(nodes)])
    network = Network.new(nodes)
    agents = await launch(lab.machines, network, **p2p)
    await until(agents, is_whole, FORMED, "a cluster")
    return agents, network


def is_whole(seen: list[Status]) -> bool:
    """Say whether all are ready, and see all others alive."""
    names = {status["me"]["name"] for status in seen}
    return all(status["me"]["engine"] == "ready" and names <= living(status) for status in seen)


def living(status: Status) -> set[str]:
    return {machine["name"] for machine in status["machines"] if machine["alive"]}


def characters(seen: list[Status]) -> list[tuple[str, str, str, str]]:
    """What no fault may change."""
    return [(s["me"]["peer"], s["me"]["role"], s["me"]["address"], s["cluster_id"]) for s in seen]


def ledger_of(agent: Agent) -> Any:
    return ApiClient(f"unix://{agent.machine.path(SOCKET)}", {}).get("ledger")


async def eventually(holds: Callable[[], Awaitable[bool]], timeout: float) -> None:
    """Wait until a condition holds. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while not await holds():  # noqa: ASYNC110 - it lives in another process, which sets no event here
            await asyncio.sleep(0.1)


async def agree(agents: list[Agent]) -> bool:
    ledgers = [ledger_of(agent) for agent in agents]
    return all(ledger == ledgers[0] for ledger in ledgers)


async def pings(source: Agent, target: Status) -> bool:
    output = await source.machine.run("ping", "-n", "-c1", "-W0.5", target["me"]["address"], check=False)
    return output.code == 0


def counted(*names: str) -> Callable[[list[Status]], bool]:
    return lambda seen: all(status["drops"].get(name) for status in seen for name in names)


async def test_noise_and_replays_from_a_fourth_machine_are_counted_by_name_and_change_nothing(lab: Lab) -> None:
    agents, _ = await cluster(lab, 3)
    before = await until(agents, is_whole, 10, "a whole cluster")
    captured = [agent.machine.directory / "captured" for agent in agents]
    tap = str(HERE / "capture.py")
    taps = [a.machine.run(sys.executable, tap, str(PORT), "8", str(f)) for a, f in zip(agents, captured, strict=True)]
    await asyncio.gather(*taps)
    everything = lab.directory / "everything"
    everything.write_text("\n".join(file.read_text() for file in captured))

    attacker = await lab.add("attacker")
    targets = [f"{agent.machine.ipv4}:{PORT}" for agent in agents]
    sent = await attacker.run(sys.executable, str(HERE / "noise.py"), "5", str(everything), *targets, timeout=20)
    assert int(sent.stdout) > 100

    names = ("truncated", "oversized", "version", "unknown_key", "unseal", "replayed", "looped", "not_tls", "stranger")
    after = await until(agents, counted(*names), 15, "all is counted")
    after = await until(agents, is_whole, 15, "nobody is lost")
    assert characters(after) == characters(before)
    assert all(living(status) == {"node-1", "node-2", "node-3"} for status in after)
    assert "attacker" not in str(ledger_of(agents[0]))
    for agent in agents:
        assert "Traceback" not in agent_log(agent)


def agent_log(agent: Agent) -> str:
    assert agent.process is not None
    return agent.process.log.read_text(errors="replace")


async def test_a_stranger_with_another_token_is_counted_and_never_appears(lab: Lab) -> None:
    agents, _ = await cluster(lab, 2)
    stranger = Agent(await lab.add("stranger"))
    stranger.configure(Network.new(2).cloud_config(peers=[f"{agent.machine.ipv4}:{PORT}" for agent in agents]))
    await stranger.start()
    # It refuses our certificate before we see its own: from here that is a handshake that was left.
    seen = await until(agents, counted("abandoned"), 20, "the stranger is counted")
    assert all(living(status) == {"node-1", "node-2"} for status in seen)
    [alone] = await until([stranger], lambda _: True, 10, "the stranger runs")
    assert [machine["name"] for machine in alone["machines"]] == ["stranger"]


async def test_what_a_member_forges_is_dropped_by_name_and_honest_nodes_agree(lab: Lab) -> None:
    agents, network = await cluster(lab, 3)
    before = await until(agents, is_whole, 10, "a whole cluster")
    victim = before[1]["me"]["peer"]
    forger = await lab.add("forger")
    target = f"{agents[0].machine.ipv4}:{PORT}"
    await forger.run(sys.executable, str(HERE / "forger.py"), target, victim, env={"KAIROS_TOKEN": network.token})

    names = (
        *("forged_author", "bad_signature", "expired", "ahead", "oversized", "not_canonical", "malformed"),
        *("truncated", "bad_hello"),
    )
    await until(agents[:1], counted(*names), 10, "each forgery has its name")
    after = await until(agents, is_whole, 10, "nobody is lost")
    assert characters(after) == characters(before)
    assert all(living(status) == {"node-1", "node-2", "node-3"} for status in after)
    await eventually(lambda: agree(agents), 15)
    assert ledger_of(agents[2])["reports"][victim]["address"] == before[1]["me"]["address"]
    for agent in agents:
        assert "Traceback" not in agent_log(agent)

    # What is odd but well signed is in every ledger now, and must not keep anybody from starting again.
    await agents[2].stop()
    await agents[2].start()
    again = await until(agents, is_whole, 20, "a restart with the odd entries on disk")
    assert characters(again) == characters(before)
    assert "Traceback" not in agent_log(agents[2])


async def test_a_wrong_join_token_shows_as_failed_with_the_reason_of_k3s(lab: Lab) -> None:
    install_engine(lab)
    await asyncio.gather(*[lab.add(f"node-{number + 1}") for number in range(3)])
    network = Network.new(3)
    agents = [Agent(machine) for machine in lab.machines]
    for agent in agents[:2]:
        agent.configure(network.cloud_config())
    wrong = yaml.safe_dump({"k3s-agent": {"env": {"K3S_TOKEN": "wrong"}}})
    agents[2].configure(network.cloud_config(role="worker") + wrong)
    await asyncio.gather(*[agent.start() for agent in agents])
    [failed] = await until(agents[2:], lambda seen: seen[0]["me"]["engine"] == "failed", FORMED, "it fails")
    assert failed["phase"] == "failed"
    assert "401" in failed["me"]["message"] or "token" in failed["me"]["message"]
    assert network.token[:40] not in failed["me"]["message"]
    healthy = await until(agents[:2], is_whole, FORMED, "the others are ready")
    # The others see it too.
    told = [m for m in healthy[0]["machines"] if m["name"] == "node-3"]
    assert [machine["engine"] for machine in told] == ["failed"]


async def test_a_full_disk_is_reported_and_nothing_is_lost_when_there_is_room_again(lab: Lab) -> None:
    install_engine(lab)
    for number in range(3):
        await lab.add(f"node-{number + 1}")
    full = lab.machines[2]
    await full.run("mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", "/var/lib/kairos")
    network = Network.new(3)
    agents = await launch(lab.machines, network)
    before = await until(agents, is_whole, FORMED, "a cluster")

    await full.run("sh", "-c", "cat /dev/zero >/var/lib/kairos/filler || true")
    for number in range(20):
        await agents[0].machine.run("kairos", "ledger", "set", "values", f"note-{number}", "x" * 10_000)
    [poor] = await until([agents[2]], lambda seen: bool(seen[0]["warnings"]), 15, "the full disk is reported")
    [warning] = poor["warnings"]
    assert "full" in warning
    assert "Free some space" in warning
    await eventually(lambda: agree(agents), 15)  # it still takes part
    assert len(ledger_of(agents[2])["values"]) == 20
    assert characters(await until(agents, is_whole, 10, "all go on")) == characters(before)

    await full.run("mount", "-o", "remount,size=16m", "/var/lib/kairos")
    await full.run("rm", "/var/lib/kairos/filler")
    await until([agents[2]], lambda seen: not seen[0]["warnings"], 15, "the warning ends with its cause")
    await agents[2].stop()
    await lab.partition(lab.machines[:2], [full])
    await agents[2].start()
    await until([agents[2]], lambda seen: seen[0]["entries"] > 20, 15, "it starts with what it had saved")
    assert set(ledger_of(agents[2])["values"]) == {f"note-{number}" for number in range(20)}


async def test_a_killed_data_plane_of_the_vpn_is_started_again_and_carries_packets(lab: Lab) -> None:
    agents, _ = await cluster(lab, 2)
    seen = await until(agents, is_whole, 10, "a whole cluster")
    find = ("pgrep", "-f", "kairos_net_vpn.dataplane")
    before = (await agents[0].machine.run(*find)).stdout.split()
    assert len(before) == 1
    await agents[0].machine.run("kill", "-KILL", *before)
    await eventually(lambda: pings(agents[0], seen[1]), 10)
    await eventually(lambda: pings(agents[1], seen[0]), 10)
    after = (await agents[0].machine.run(*find)).stdout.split()
    assert len(after) == 1
    assert after != before
    assert characters(await until(agents, is_whole, 10, "all go on")) == characters(seen)


async def test_a_killed_agent_takes_no_packet_of_the_vpn_with_it(lab: Lab) -> None:
    agents, _ = await cluster(lab, 2)
    seen = await until(agents, is_whole, 10, "a whole cluster")
    await eventually(lambda: pings(agents[1], seen[0]), 10)
    find = ("pgrep", "-f", "kairos_net_vpn.dataplane")
    before = (await agents[0].machine.run(*find)).stdout.split()
    address = seen[0]["me"]["address"]
    under_way = await agents[1].machine.start("ping", "-n", "-q", "-i0.05", "-W1", "-c300", address, log="ping")
    for _ in range(2):
        await agents[0].stop()
        await agents[0].start()
        await until(agents, is_whole, 10, "the agent is back")
    assert (await agents[0].machine.run(*find)).stdout.split() == before
    await under_way.wait()
    [told] = [line for line in under_way.last_lines().splitlines() if "packets transmitted" in line]
    assert 300 - int(told.split(" packets transmitted, ")[1].split()[0]) <= 1, told
    assert characters(await until(agents, is_whole, 10, "all go on")) == characters(seen)


async def test_machines_whose_clocks_are_a_day_off_join_by_the_networks_time_and_say_so(lab: Lab) -> None:
    agents, network = await cluster(lab, 2)
    seeds = [f"{agent.machine.ipv4}:{PORT}" for agent in agents]
    for name, seconds in (("behind", -DAY), ("ahead", DAY)):
        program = lab.programs / f"kairos-{name}"
        program.write_text(CLOCK_OFF.format(python=sys.executable, seconds=seconds))
        program.chmod(0o755)
        agent = Agent(await lab.add(name), str(program))
        agent.configure(network.cloud_config(peers=seeds))
        await agent.start()
        agents.append(agent)
    seen = await until(agents, is_whole, FORMED, "all clocks in one cluster")
    assert [status["me"]["role"] for status in seen[2:]] == ["worker", "worker"]
    for status, side in zip(seen[2:], ("1 days 0 min behind", "1 days 0 min ahead of"), strict=True):
        assert any(side in warning and "Set the clock" in warning for warning in status["warnings"])
    assert not any("clock" in warning for status in seen[:2] for warning in status["warnings"])
    for target in seen[:2]:
        assert await pings(agents[2], target)
        assert await pings(agents[3], target)
