"""Two nodes to whom their operators gave one VPN address: one keeps it, the other says so or takes another."""

import asyncio
from collections.abc import Sequence

import pytest

from kairos_core.testing.agents import Agent, Network, Status, launch, until
from kairos_core.testing.lab import Lab

pytestmark = pytest.mark.system

WANTED = "10.1.0.50"
STEP = 20.0
"""Seconds for each step. Measured: 1 to 6 s, as a node that waits for others looks every 5 s; the rest is for a slow
machine."""


async def two_alone(lab: Lab, dhcp: str) -> list[Agent]:
    """Start two nodes that do not see each other, and wait until both have the address."""
    await asyncio.gather(*[lab.add(f"node-{number + 1}") for number in range(2)])
    await lab.partition(lab.machines[:1], lab.machines[1:])
    vpn = {"env": {"ADDRESS": f"{WANTED}/24", "DHCP": dhcp}}
    agents = await launch(lab.machines, Network.new(1), role="none", vpn=vpn)
    await until(agents, lambda seen: addresses(seen) == [WANTED] * 2, STEP, "both have the address")
    return agents


def addresses(seen: Sequence[Status]) -> list[str | None]:
    return [status["me"]["address"] for status in seen]


def sees_both(seen: Sequence[Status]) -> bool:
    return all(sum(machine["alive"] for machine in status["machines"]) == 2 for status in seen)


async def test_with_dhcp_the_loser_takes_another_address_and_both_reach_each_other(lab: Lab) -> None:
    agents = await two_alone(lab, dhcp="true")
    await lab.heal()
    seen = await until(
        agents,
        lambda seen: sees_both(seen) and len({*addresses(seen)}) == 2 and None not in addresses(seen),
        STEP,
        "two addresses",
    )
    assert WANTED in addresses(seen)
    for agent, other in zip(agents, reversed(addresses(seen)), strict=True):
        await agent.machine.run("ping", "-n", "-c1", "-w10", str(other))


async def test_without_dhcp_the_loser_has_none_and_names_the_holder(lab: Lab) -> None:
    agents = await two_alone(lab, dhcp="false")
    await lab.heal()
    seen = await until(
        agents,
        lambda seen: sees_both(seen) and addresses(seen).count(WANTED) == 1 and len(refused(seen)) == 1,
        STEP,
        "one says that the address is taken",
    )
    [loser] = refused(seen)
    [winner] = [status for status in seen if status is not loser]
    assert (winner["me"]["address"], loser["me"]["address"]) == (WANTED, None)
    assert winner["me"]["peer"] in str(loser["warnings"])


def refused(seen: Sequence[Status]) -> list[Status]:
    return [status for status in seen if "is held by" in str(status["warnings"])]
