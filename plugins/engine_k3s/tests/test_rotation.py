"""A token that is rotated, servers that move: what the engine changes, and what it leaves running. Real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kairos_core import Engine, EngineError, EngineState, Join, Role, SecretStr
from kairos_core.testing.machines import begun, check_secrets, formed, joined, reached

pytestmark = pytest.mark.system
Make = Callable[[str], Any]  # a Machine of conftest.py


def rotate(machine: Any, new: str) -> None:
    argv = ["token", "rotate", f"--server=https://127.0.0.1:{machine.port}", f"--new-token={new}"]
    subprocess.run([machine.root / "usr/local/bin/k3s", *argv], check=True, capture_output=True, timeout=20)


def given(machine: Any, service: str = "k3s") -> str:
    """Return the token with which k3s is started next."""
    lines = (machine.root / f"etc/rancher/k3s/{service}.env").read_text().splitlines()
    return next(line for line in lines if line.startswith("K3S_TOKEN")).partition("=")[2].strip("'\"")


async def started_again(engine: Engine) -> None:
    """Start Kubernetes again as an operator does, and wait until it is ready."""
    service = await engine.service()
    assert service is not None
    await service.stop()
    await service.start()
    await reached(engine, EngineState.READY)


async def knows_the_rotation(machine: Any) -> None:
    """Wait until the etcd of a server has it: one that has not is refused its own data with the new token."""
    state = machine.root / "var/lib/rancher/k3s/server/db/state.json"
    async with asyncio.timeout(20):
        while "rotations" not in state.read_text():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.05)


async def all_told(engine: Engine, secret: str) -> Join:
    """Wait until a master tells others to join with this secret; return how. The port is for the caller to know."""
    async with asyncio.timeout(20):
        while True:
            status = await engine.status()
            if status.join_token and status.join_token.get_secret_value().endswith(f"::server:{secret}"):
                return Join("", status.join_token)
            await asyncio.sleep(0.05)


async def test_what_runs_goes_on_with_a_rotated_token_and_starts_again_with_the_new_one(machine: Make) -> None:
    (first, second, worker), engines, join = await formed(machine)
    pids = first.pid(), second.pid(), worker.pid("k3s-agent")
    rotate(second, "rotated-token")
    told = replace(await all_told(engines[1], "rotated-token"), server=join.server)
    plans = (
        replace(first.plan(Role.CLUSTER_INIT), cluster_token=told.token),
        second.plan(Role.HA, told),
        worker.plan(Role.WORKER, told),
    )
    for engine, plan in zip(engines, plans, strict=True):
        await engine.apply(plan)
        await engine.apply(plan)
    assert (first.pid(), second.pid(), worker.pid("k3s-agent")) == pids, "what runs needs no token"
    assert given(first) == "rotated-token"
    assert given(second) == given(worker, "k3s-agent") == told.token.get_secret_value()
    await all_told(engines[0], "rotated-token")  # should the second be lost
    check_secrets(first, "rotated-token")
    check_secrets(worker, "rotated-token", service="k3s-agent")
    await knows_the_rotation(first)
    for engine in engines:
        await started_again(engine)
    late = machine("late")
    await joined(late, Role.HA, replace(told, server=f"https://127.0.0.1:{second.port}"))


async def test_a_master_that_was_off_is_not_started_with_the_token_from_before_its_rotation(machine: Make) -> None:
    a = machine("a")
    before, _ = await begun(a)
    rotate(a, "rotated-token")
    service = await before.service()
    assert service is not None
    await service.stop()
    after = a.engine()
    await after.apply(a.plan(Role.CLUSTER_INIT))  # the network has not heard of it
    await reached(after, EngineState.READY)
    assert given(a) == "rotated-token"
    await a.engine().apply(a.plan(Role.CLUSTER_INIT))
    assert given(a) == "rotated-token"


async def test_a_k3s_that_dies_after_its_rotation_comes_back(machine: Make) -> None:
    a = machine("a")
    engine, _ = await begun(a)
    rotate(a, "rotated-token")
    told = await all_told(engine, "rotated-token")
    await engine.apply(replace(a.plan(Role.CLUSTER_INIT), cluster_token=told.token))
    os.kill(a.pid(), signal.SIGKILL)
    await reached(engine, EngineState.FAILED)
    await reached(engine, EngineState.READY)


@pytest.mark.parametrize("role", [Role.WORKER, Role.HA])
async def test_who_was_refused_with_an_old_token_is_started_again_with_the_new_one(role: Role, machine: Make) -> None:
    master, other = machine("master"), machine("other")
    _, join = await begun(master)
    joining = other.engine()
    right = join.token.get_secret_value()
    old = replace(join, token=SecretStr(right.replace(master.TOKEN, "an-older-token")))
    await joining.apply(other.plan(role, old))
    await reached(joining, EngineState.FAILED)
    await joining.apply(other.plan(role, join))
    await reached(joining, EngineState.READY)


async def test_a_token_of_another_authority_starts_what_runs_again(machine: Make) -> None:
    master, worker = machine("master"), machine("worker")
    _, join = await begun(master)
    joining = await joined(worker, Role.WORKER, join)
    pid = worker.pid("k3s-agent")
    foreign = SecretStr(f"K10{'0' * 64}::server:{master.TOKEN}")
    await joining.apply(worker.plan(Role.WORKER, replace(join, token=foreign)))
    assert worker.pid("k3s-agent") != pid


async def test_token_and_kubeconfig_are_read_from_k3s_files_at_each_look(machine: Make) -> None:
    a = machine("a")
    engine = a.engine()
    await engine.apply(a.plan(Role.MASTER))
    first = await reached(engine, EngineState.READY)
    token, kubeconfig = a.root / "var/lib/rancher/k3s/server/token", a.root / "etc/rancher/k3s/k3s.yaml"
    authority = f"K10{'c' * 64}::server:{a.TOKEN}"
    token.write_text(f"{authority}\n")
    kubeconfig.write_text(kubeconfig.read_text().replace("name: default", "name: renewed"))
    now = await engine.status()
    assert first.kubeconfig is not None
    assert now.join_token is not None
    assert now.kubeconfig is not None
    assert now.join_token.get_secret_value() == authority
    assert "renewed" in now.kubeconfig.get_secret_value()


async def test_another_server_to_join_matters_to_a_worker_and_not_to_a_master_that_has_joined(machine: Make) -> None:
    (first, second, worker), engines, join = await formed(machine)
    pids = second.pid(), worker.pid("k3s-agent")
    moved = replace(join, server=f"https://localhost:{first.port}")
    await engines[1].apply(second.plan(Role.HA, moved))
    await engines[2].apply(worker.plan(Role.WORKER, replace(join, server=f"https://127.0.0.1:{second.port}")))
    assert second.pid() == pids[0]
    assert worker.pid("k3s-agent") != pids[1]
    command = (second.root / "var/lib/kairos/engine_k3s/k3s.json").read_text()
    assert moved.server in command, "it is there for the next start"
    await reached(engines[2], EngineState.READY)


async def test_the_first_master_begins_no_second_cluster_where_its_data_is_gone(machine: Make) -> None:
    a = machine("a")
    engine, _ = await begun(a)
    service = await engine.service()
    assert service is not None
    await service.stop()
    db = a.root / "var/lib/rancher/k3s/server/db"
    db.rename(db.with_name("db.old"))
    with pytest.raises(EngineError, match="would begin another one"):
        await engine.apply(a.plan(Role.CLUSTER_INIT))
    db.with_name("db.old").rename(db)
    await engine.apply(a.plan(Role.CLUSTER_INIT))
    await reached(engine, EngineState.READY)


@pytest.mark.parametrize("role", [Role.MASTER, Role.CLUSTER_INIT])
async def test_a_master_with_another_address_goes_on_or_says_what_to_do(role: Role, machine: Make) -> None:
    a = machine("a")
    engine, plan = a.engine(), a.plan(role)
    await engine.apply(plan)
    await reached(engine, EngineState.READY)
    moved = replace(plan, attachment=replace(plan.attachment, node_ip="127.0.0.9"))
    await engine.apply(moved)
    if role is Role.MASTER:
        await reached(engine, EngineState.READY)
        return
    status = await reached(engine, EngineState.FAILED)
    commands = status.message.partition("run: ")[2].split("; ")
    assert commands == [
        "kairos engine stop",
        "k3s server --cluster-reset --node-name=a --node-ip=127.0.0.9",
        "kairos engine start",
    ]
    service = await engine.service()
    assert service is not None
    await service.stop()
    argv = [str(a.root / "usr/local/bin/k3s"), *commands[1].split()[1:]]
    done = await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True, text=True, timeout=20)
    assert "membership has been reset" in done.stderr
    await service.start()
    await reached(engine, EngineState.READY)
