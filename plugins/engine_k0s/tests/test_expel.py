"""How a controller takes a node out of the cluster: with a fake k0s, and with the stand-in as processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kairos_engine_k0s import K0sEngine
from kairos_engine_k0s.launch import DATA_DIRECTORY, HOME
from kairos_engine_k0s.members import Member, member_of, members

from kairos_core import ClusterNode, Disk, EngineError, EngineState, Kubectl, Role
from kairos_core.testing.expulsions import (
    check_budget,
    check_expulsion,
    check_expulsion_of_strangers,
    check_expulsion_of_the_dead,
)
from kairos_core.testing.k3s.kubectl import BUDGET
from kairos_core.testing.machines import begun, joined, reached

Make = Callable[[str], Any]  # a Machine of conftest.py

MEMBERS = {"host-1": "https://10.1.0.1:2380", "host-2": "https://[fd00::2]:2380"}


@dataclass
class Controller:
    """A machine on which a fake k0s serves, which writes down how it is run."""

    root: Path

    def __post_init__(self) -> None:
        Disk(HOME, self.root).remember(service="k0scontroller", data_directory=DATA_DIRECTORY)

    def answer(self, node: str = "", *, address: str = "10.1.0.1", drain: str = "exit 0", list: str = "") -> K0sEngine:
        """Let `get` answer a controller of this name, member-list the members or what is given, and drain end so."""
        document = {
            "metadata": {"name": node, "labels": {"node-role.kubernetes.io/control-plane": "true"}},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }
        (self.root / "node").write_text(json.dumps(document) if node else "")
        (self.root / "members").write_text(json.dumps({"members": MEMBERS}))
        program = self.root / "usr/local/bin/k0s"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$*" >> {self.root}/runs\n'
            f'case "$*" in *" get "*) cat {self.root}/node;; *" drain "*) {drain};; '
            f"*member-list*) {list or f'cat {self.root}/members'};; esac\n"
        )
        program.chmod(0o755)
        return K0sEngine(root=self.root)

    @property
    def runs(self) -> list[str]:
        """What it was asked, without what is the same each time."""
        lines = (self.root / "runs").read_text().replace(f"{self.root}/var/lib/k0s", "DATA").splitlines()
        fixed = (" --kubeconfig=DATA/pki/admin.conf", " --data-dir=DATA", " --ignore-not-found")
        for words in fixed:
            lines = [line.replace(words, "") for line in lines]
        return [line.partition(" --output")[0].partition(" --wait")[0].partition(" --ignore-d")[0] for line in lines]


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    return Controller(tmp_path)


async def test_a_controller_is_drained_its_member_goes_and_then_its_node(controller: Controller) -> None:
    await controller.answer("node-a").expel("node-a")
    assert controller.runs == [
        "kubectl get node node-a",
        "kubectl drain node-a",
        "etcd member-list",
        "kubectl delete controlnode.autopilot.k0sproject.io host-1",
        "etcd leave --peer-address=10.1.0.1",
        "kubectl delete node node-a",
    ]


async def test_a_controller_without_a_kubelet_is_no_node_but_a_member(controller: Controller) -> None:
    await controller.answer().expel("Host-2")
    assert controller.runs == [
        "kubectl get node host-2",
        "etcd member-list",
        "kubectl delete controlnode.autopilot.k0sproject.io host-2",
        "etcd leave --peer-address=fd00::2",
    ]


async def test_a_node_without_a_member_is_deleted_alone(controller: Controller) -> None:
    await controller.answer("node-a", address="10.1.0.9").expel("node-a")
    assert controller.runs[2:] == ["etcd member-list", "kubectl delete node node-a"]


async def test_for_a_node_that_is_not_there_nothing_is_done(controller: Controller) -> None:
    await controller.answer().expel("stranger")
    assert controller.runs == ["kubectl get node stranger", "etcd member-list"]


async def test_a_node_that_cannot_be_drained_keeps_its_member(controller: Controller) -> None:
    with pytest.raises(EngineError, match="node-a cannot be drained: no"):
        await controller.answer("node-a", drain="echo error: no >&2; exit 1").expel("node-a")
    assert controller.runs == ["kubectl get node node-a", "kubectl drain node-a"]


@pytest.mark.parametrize(
    "words", ["wrong storage type: kine", "command 'k0s etcd' does not support external etcd cluster"]
)
async def test_storage_that_is_no_etcd_of_k0s_has_no_members(words: str, controller: Controller) -> None:
    await controller.answer("node-a", list=f'echo "Error: {words}" >&2; exit 1').expel("node-a")
    assert controller.runs[-1] == "kubectl delete node node-a"


@pytest.mark.parametrize("output", ["no JSON", "[]", '{"members": []}'])
async def test_a_list_that_is_none_is_an_error(output: str, controller: Controller) -> None:
    controller.answer(list=f"echo '{output}'")
    with pytest.raises(EngineError, match="cannot list the members of etcd"):
        await members(str(controller.root / "usr/local/bin/k0s"), "/nowhere")


async def test_a_worker_takes_nobody_out(controller: Controller) -> None:
    engine = controller.answer("node-a")
    Disk(HOME, controller.root).remember(service="k0sworker")
    with pytest.raises(EngineError, match="only a k0s controller"):
        await engine.expel("node-a")


def test_a_worker_that_is_called_as_a_controllers_machine_has_no_member() -> None:
    known = (Member("host-1", "10.1.0.1"),)
    worker = ClusterNode("host-1", ("10.1.0.7",))
    assert member_of(known, "host-1", worker) is None
    assert member_of(known, "host-1", ClusterNode("host-1", (), is_control_plane=True)) == known[0]
    assert member_of(known, "other", ClusterNode("other", ("10.1.0.1",))) == known[0]  # it began as a worker


async def test_without_k0s_its_data_is_not_forgotten(tmp_path: Path) -> None:
    Disk(HOME, tmp_path).remember(service="", data_directory=DATA_DIRECTORY)
    (tmp_path / "var/lib/k0s").mkdir(parents=True)
    with pytest.raises(EngineError, match="Put k0s back"):
        await K0sEngine(root=tmp_path).remove()
    assert Disk(HOME, tmp_path).state().data_directory == DATA_DIRECTORY


@pytest.mark.system
async def test_of_three_controllers_one_takes_out_another_which_comes_back_clean(machine: Make) -> None:
    await check_expulsion(machine)


@pytest.mark.system
async def test_who_is_not_there_is_taken_out_without_a_word(machine: Make) -> None:
    await check_expulsion_of_strangers(machine("first"))


async def _members(machine: Any) -> list[str]:
    program = str(machine.root / "usr/local/bin/k0s")
    return sorted(member.name for member in await members(program, str(machine.root / "var/lib/k0s")))


@pytest.mark.system
@pytest.mark.parametrize("arguments", [(), ("--enable-worker=false",)], ids=["with a kubelet", "without one"])
async def test_a_controller_that_was_taken_out_is_no_member(arguments: tuple[str, ...], machine: Make) -> None:
    first, second = machine("first"), machine("second")
    engine, join = await begun(first)
    joining = await joined(second, Role.HA, join, *arguments)
    assert await _members(first) == ["first", "second"]
    await engine.expel("second")
    assert await _members(first) == ["first"]
    await reached(joining, EngineState.FAILED)
    assert (await reached(engine, EngineState.READY)).nodes == ("first",)
    await second.engine().remove()
    assert not (second.root / "var/lib/k0s").exists()


@pytest.mark.system
async def test_a_drain_that_a_budget_holds_up_deletes_nothing(machine: Make) -> None:
    first = await check_budget(machine, Role.HA, f"--labels={BUDGET}=web")
    assert await _members(first) == ["first", "second"]


@pytest.mark.system
async def test_a_dead_worker_is_taken_out_as_soon_as_the_cluster_knows_it(machine: Make) -> None:
    await check_expulsion_of_the_dead(machine, _kubectl)


def _kubectl(machine: Any) -> Kubectl:
    program, admin = machine.root / "usr/local/bin/k0s", machine.root / "var/lib/k0s/pki/admin.conf"
    return Kubectl((str(program), "kubectl", f"--kubeconfig={admin}"))
