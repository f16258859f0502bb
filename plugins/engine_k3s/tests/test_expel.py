"""How a server takes a node out of the cluster: with a fake k3s, and with the stand-in as processes."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from kairos_engine_k3s import K3sEngine
from kairos_engine_k3s.launch import HOME, KUBECONFIG

from kairos_core import Disk, Engine, EngineError, EngineState, Kubectl, Role
from kairos_core.testing.expulsions import (
    check_budget,
    check_expulsion,
    check_expulsion_of_strangers,
    check_expulsion_of_the_dead,
)
from kairos_core.testing.k3s.kubectl import BUDGET
from kairos_core.testing.machines import begun, joined, knows, reached

Make = Callable[[str], Any]  # a Machine of conftest.py

NODE = {
    "metadata": {"name": "worker", "labels": {}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


@dataclass
class Server:
    """A machine on which a fake k3s serves, which writes down how its kubectl is run."""

    root: Path

    def __post_init__(self) -> None:
        Disk(HOME, self.root).remember(service="k3s", kubeconfig=KUBECONFIG)
        self.answer(NODE)

    def answer(self, node: Any, *, drain: str = "exit 0") -> None:
        """Let `get` answer this node, and drain end so."""
        program = self.root / "usr/local/bin/k3s"
        program.parent.mkdir(parents=True, exist_ok=True)
        (self.root / "node").write_text(json.dumps(node) if node else "")
        program.write_text(
            f'#!/bin/sh\nshift 2\nprintf "%s\\n" "$*" >> {self.root}/runs\n'
            f"case $1 in get) cat {self.root}/node;; drain) {drain};; esac\n"
        )
        program.chmod(0o755)

    @property
    def verbs(self) -> list[str]:
        return [" ".join(line.split()[:-1]) for line in (self.root / "runs").read_text().splitlines()]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


async def test_a_node_is_drained_and_then_deleted_by_an_engine_that_applied_nothing(server: Server) -> None:
    await K3sEngine(root=server.root).expel("worker")
    assert server.verbs == [
        "get node worker --ignore-not-found --output=json",
        "drain worker --ignore-daemonsets --delete-emptydir-data --force",
        "delete node worker --ignore-not-found --wait=true",
    ]


async def test_for_a_node_that_is_not_there_nothing_is_done(server: Server) -> None:
    server.answer(None)
    await K3sEngine(root=server.root).expel("worker")
    assert [verb.split()[0] for verb in server.verbs] == ["get"]


async def test_a_node_that_cannot_be_drained_is_not_deleted(server: Server) -> None:
    server.answer(NODE, drain="echo error: no >&2; exit 1")
    with pytest.raises(EngineError, match="worker cannot be drained: no"):
        await K3sEngine(root=server.root).expel("worker")
    assert [verb.split()[0] for verb in server.verbs] == ["get", "drain"]


async def test_an_agent_of_k3s_takes_nobody_out(server: Server) -> None:
    Disk(HOME, server.root).remember(service="k3s-agent", kubeconfig="")
    with pytest.raises(EngineError, match="only a k3s server"):
        await K3sEngine(root=server.root).expel("worker")


@pytest.mark.system
async def test_of_three_servers_one_takes_out_another_which_comes_back_clean(machine: Make) -> None:
    await check_expulsion(machine)


@pytest.mark.system
async def test_who_is_not_there_is_taken_out_without_a_word(machine: Make) -> None:
    await check_expulsion_of_strangers(machine("first"))


async def _members(machine: Any) -> list[str]:
    """Return the members of etcd, as a server knows them."""
    asked = await asyncio.create_subprocess_exec(
        machine.root / "usr/local/bin/k3s", "kubectl", "get", "--raw", "/stand-in/members",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await asked.communicate()
    return sorted(json.loads(output))


async def _pair(first: Any, second: Any) -> tuple[Engine, Engine]:
    """Start a first master and one that joins it."""
    engine, join = await begun(first)
    joining = await joined(second, Role.HA, join)
    assert await _members(first) == ["first", "second"]
    return engine, joining


@pytest.mark.system
async def test_a_server_that_was_taken_out_is_no_member_and_is_removed_with_its_data(machine: Make) -> None:
    first, second = machine("first"), machine("second")
    engine, joining = await _pair(first, second)
    await engine.expel("second")
    assert await _members(first) == ["first"]
    await joining.remove()
    assert (await reached(engine, EngineState.READY)).nodes == ("first",)
    assert not (second.root / "var/lib/rancher/k3s").exists()


def _begun(machine: Any) -> int:
    """Return how often k3s has put the data of a member away that was removed."""
    return len(list((machine.root / "var/lib/rancher/k3s/server/db").glob("etcd-old-*")))


@pytest.mark.system
async def test_a_first_master_whose_node_was_deleted_joins_the_others_again_by_itself(machine: Make) -> None:
    first, second = machine("first"), machine("second")
    engine, joining = await _pair(first, second)
    pid = first.pid()
    safe = replace(first.plan(Role.CLUSTER_INIT), rejoin=f"https://127.0.0.1:{second.port}")
    await engine.apply(safe)
    assert first.pid() == pid, "nothing is started afresh for it"
    await joining.expel("first")
    await knows(joining, "first", "second")  # its supervisor has started it again, and nobody has told it anything
    assert _begun(first) == 1
    assert await _members(second) == ["first", "second"]
    assert (await reached(engine, EngineState.READY)).nodes == ("first", "second"), "it is the same cluster"
    token = (first.root / "var/lib/rancher/k3s/server/token").read_text().strip()
    environment = (first.root / "etc/rancher/k3s/k3s.env").read_text()
    assert token.startswith("K10")
    assert token in environment, "it shows the token to this cluster alone"
    pid = first.pid()
    await first.engine().apply(first.plan(Role.CLUSTER_INIT))  # a restarted agent that sees nobody yet
    assert first.pid() == pid
    await joining.expel("first")
    await knows(joining, "first", "second")
    assert _begun(first) == 2
    assert await _members(second) == ["first", "second"], "still no second cluster"


@pytest.mark.system
async def test_a_first_master_that_knew_of_no_other_begins_anew_and_is_not_started_so_by_the_engine(
    machine: Make,
) -> None:
    """Why it must know of the others: this is what k3s does (k3s#13623)."""
    first, second = machine("first"), machine("second")
    engine, joining = await _pair(first, second)
    await joining.expel("first")
    await knows(engine, "first")
    assert await _members(first) == ["first"], "a second cluster"
    assert await _members(second) == ["second"]
    await (await engine.service()).stop()
    (first.root / "var/lib/rancher/k3s/server/db/state.json").rename(first.root / "elsewhere")
    shutil.rmtree(first.root / "var/lib/rancher/k3s/server/db")
    with pytest.raises(EngineError, match=r"its data in .* is gone"):
        await engine.apply(first.plan(Role.CLUSTER_INIT))
    await engine.apply(replace(first.plan(Role.CLUSTER_INIT), rejoin=f"https://127.0.0.1:{second.port}"))
    await knows(joining, "first", "second")


@pytest.mark.system
async def test_a_drain_that_a_budget_holds_up_deletes_nothing(machine: Make) -> None:
    await check_budget(machine, Role.WORKER, f"--node-label={BUDGET}=web")


@pytest.mark.system
async def test_a_dead_node_is_taken_out_as_soon_as_the_cluster_knows_it(machine: Make) -> None:
    sooner = "--kube-controller-manager-arg=node-monitor-grace-period=1.5s"
    await check_expulsion_of_the_dead(machine, _kubectl, sooner)


def _kubectl(machine: Any) -> Kubectl:
    program, admin = machine.root / "usr/local/bin/k3s", machine.root / KUBECONFIG.lstrip("/")
    return Kubectl((str(program), "kubectl", f"--kubeconfig={admin}"))


@pytest.mark.system
async def test_a_node_that_runs_on_does_not_come_back_until_it_is_started_again(machine: Make) -> None:
    first, worker = machine("first"), machine("worker")
    engine, join = await begun(first)
    joining = await joined(worker, Role.WORKER, join)
    await engine.expel("worker")
    await asyncio.sleep(2.5)  # two heartbeats
    assert (await engine.status()).nodes == ("first",)
    service = await joining.service()
    await service.stop()
    await service.start()
    await knows(engine, "first", "worker")
