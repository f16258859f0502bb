"""The checks of how a master takes a node out, held to fake engines: what is right passes, and each fault is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kairos_core.kubernetes.kubectl import ClusterNode
from kairos_core.model import Role
from kairos_core.testing.expulsions import (
    check_budget,
    check_expulsion,
    check_expulsion_of_strangers,
    check_expulsion_of_the_dead,
)

Make = Callable[..., Any]  # a Machine of conftest.py


class Heard:
    """A kubectl to which the worker falls silent when it is asked for the second time."""

    def __init__(self, _machine: Any) -> None:
        self.asked = 0

    async def node(self, name: str) -> ClusterNode:
        self.asked += 1
        return ClusterNode(name, is_silent=self.asked > 1)


async def test_who_takes_out_the_right_ones_passes(make: Make) -> None:
    await check_expulsion(make)


async def test_an_engine_that_expels_nobody_is_found(make: Make) -> None:
    with pytest.raises(AssertionError, match=r"'third'., not .'first', 'second'"):
        await check_expulsion(lambda name: make(name, "expels nobody"))


async def test_strangers_change_nothing(make: Make) -> None:
    await check_expulsion_of_strangers(make("a"))


@pytest.mark.parametrize(
    ("fault", "what"), [("expels nobody", "must be refused where no master"), ("expels anybody", "knows .., not")]
)
async def test_an_engine_that_expels_without_asking_who_is_found(make: Make, fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        await check_expulsion_of_strangers(make("a", fault))


async def test_who_takes_out_the_dead_passes(make: Make) -> None:
    await check_expulsion_of_the_dead(make, Heard)


async def test_an_engine_that_keeps_the_dead_is_found(make: Make) -> None:
    with pytest.raises(AssertionError, match="who is dead must be taken out"):
        await check_expulsion_of_the_dead(lambda name: make(name, "expels nobody"), Heard)


@pytest.mark.parametrize("role", [Role.WORKER, Role.HA])
async def test_who_heeds_a_budget_passes_and_is_told(make: Make, role: Role) -> None:
    assert (await check_budget(make, role, "--budget")).name == "first"


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("heeds no budget", "must say so, and by what: nothing"),
        ("says not why", "must say so, and by what: second cannot be drained"),
        ("deletes all the same", "must stay in the cluster"),
    ],
)
async def test_an_engine_that_heeds_no_budget_or_does_not_tell_is_found(make: Make, fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        await check_budget(lambda name: make(name, fault), Role.WORKER, "--budget")
