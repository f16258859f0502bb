"""How a node is taken out of a cluster: what kubectl is run with, and what is made of its answers."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from kairos_core import ClusterNode, EngineError, Kubectl
from kairos_core.cluster.view import MAX_SENTENCE
from kairos_core.kubernetes.kubectl import MAX_COMPLAINT, complaint

BUDGET = """Warning: ignoring DaemonSet-managed Pods: kube-system/svclb
error when evicting pods/"web-1" -n "shop" (will retry after 5s): Cannot evict pod as it would violate the pod's \
disruption budget.
error when evicting pods/"web-1" -n "shop" (will retry after 5s): Cannot evict pod as it would violate the pod's \
disruption budget.
There are pending pods in node "a" when an error occurred: error when evicting pods/"web-1" -n "shop": global timeout \
reached: 2m0s
pod/web-1
error: unable to drain node "a" due to error: error when evicting pods/"web-1" -n "shop": global timeout reached: \
2m0s, continuing command...
There are pending nodes to be drained:
 a
error: error when evicting pods/"web-1" -n "shop": global timeout reached: 2m0s
"""


class Program:
    """A kubectl that says what a test wants, and writes down how it was run."""

    def __init__(self, directory: Path) -> None:
        self._path, self._log = directory / "kubectl", directory / "arguments"
        self.answers()

    def answers(self, output: str = "", errors: str = "", code: int = 0) -> Kubectl:
        """Let it answer this from now on."""
        (self._path.parent / "output").write_text(output)
        (self._path.parent / "errors").write_text(errors)
        self._path.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$*" >> {self._log}\ncat {self._path.parent}/output\n'
            f"cat {self._path.parent}/errors >&2\nexit {code}\n"
        )
        self._path.chmod(0o755)
        return Kubectl((str(self._path), "--kubeconfig=admin"))

    @property
    def runs(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def node_text(ready: str = "True", **labels: str) -> str:
    addresses = [{"type": "InternalIP", "address": "10.1.0.7"}, {"type": "Hostname", "address": "a"}]
    status = {"addresses": addresses, "conditions": [{"type": "Ready", "status": ready}]}
    return json.dumps({"metadata": {"name": "a", "labels": labels}, "status": status})


async def test_a_node_is_known_by_its_name_in_lower_case(program: Program) -> None:
    kubectl = program.answers(node_text())
    assert await kubectl.node("A") == ClusterNode("a", ("10.1.0.7",))
    assert program.runs == [
        "--kubeconfig=admin get node a --ignore-not-found --output=json --request-timeout=20s",
    ]


@pytest.mark.parametrize(("ready", "is_silent"), [("True", False), ("False", False), ("Unknown", True)])
async def test_a_node_is_silent_when_the_cluster_does_not_know(ready: str, is_silent: bool, program: Program) -> None:
    node = await program.answers(node_text(ready, **{"node-role.kubernetes.io/control-plane": "true"})).node("a")
    assert node == ClusterNode("a", ("10.1.0.7",), is_control_plane=True, is_silent=is_silent)


async def test_a_node_that_is_not_there_is_none(program: Program) -> None:
    assert await program.answers("").node("gone") is None


@pytest.mark.parametrize("name", ["", "--selector=x", "-l", "a b", "pods/x", "a,b", "a;b", "a\nb", "-", "a" * 254])
async def test_what_no_node_can_be_called_is_never_an_argument(name: str, program: Program) -> None:
    assert await program.answers(node_text()).node(name) is None
    assert program.runs == []


@pytest.mark.parametrize("output", ["no JSON", "[]", "{}", '{"metadata": {}}'])
async def test_an_answer_that_is_no_node_is_an_error(output: str, program: Program) -> None:
    with pytest.raises(EngineError, match="the answer is no node"):
        await program.answers(output).node("a")


async def test_a_cluster_that_does_not_answer_is_an_error_in_its_words(program: Program) -> None:
    kubectl = program.answers(errors="The connection to the server 127.0.0.1:6443 was refused\n", code=1)
    with pytest.raises(EngineError, match=r"cannot ask the cluster for a: The connection .* was refused"):
        await kubectl.node("a")


async def test_pods_are_evicted_and_budgets_respected(program: Program) -> None:
    await program.answers().drain(ClusterNode("a"))
    assert program.runs == [
        "--kubeconfig=admin drain a --ignore-daemonsets --delete-emptydir-data --force --timeout=120s"
    ]


async def test_the_pods_of_a_silent_node_are_not_waited_for(program: Program) -> None:
    await program.answers().drain(ClusterNode("a", is_silent=True))
    assert program.runs[0].endswith(" --timeout=120s --grace-period=1 --skip-wait-for-delete-timeout=1")


async def test_a_drain_that_is_held_up_says_by_what_and_what_to_do(program: Program) -> None:
    with pytest.raises(EngineError) as caught:
        await program.answers(errors=BUDGET, code=1).drain(ClusterNode("a"))
    assert str(caught.value) == (
        'a cannot be drained: evicting pods/"web-1" -n "shop": Cannot evict pod as it would violate the pod\'s '
        "disruption budget. Mend it (kubectl get pdb -A), or on that machine: kairos leave --force"
    )


async def test_what_to_do_is_within_what_is_read_of_a_farewell(program: Program) -> None:
    with pytest.raises(EngineError) as caught:
        await program.answers(errors=BUDGET.replace("web-1", "w" * 63), code=1).drain(ClusterNode("n" * 40))
    assert str(caught.value)[:MAX_SENTENCE].endswith("kairos leave --force")


async def test_a_node_that_went_meanwhile_is_drained(program: Program) -> None:
    await program.answers(errors='Error from server (NotFound): nodes "a" not found\n', code=1).drain(ClusterNode("a"))


async def test_a_deletion_waits_and_does_not_mind_what_is_gone(program: Program) -> None:
    await program.answers().delete("a")
    assert program.runs == ["--kubeconfig=admin delete node a --ignore-not-found --wait=true --timeout=60s"]


async def test_a_kind_that_the_cluster_does_not_know_has_nothing_to_delete(program: Program) -> None:
    kubectl = program.answers(errors='error: the server doesn\'t have a resource type "controlnode"\n', code=1)
    await kubectl.delete("a", kind="controlnode")
    assert program.runs[0].startswith("--kubeconfig=admin delete controlnode a ")


async def test_what_does_not_go_is_an_error(program: Program) -> None:
    kubectl = program.answers(errors="error: timed out waiting for the condition on nodes/a\n", code=1)
    with pytest.raises(EngineError, match=r"node a is deleted and stays: timed out .* finalizers"):
        await kubectl.delete("a")


async def test_kubectl_ends_with_who_waits_for_it(tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o755)
    draining = asyncio.create_task(Kubectl((str(program),)).drain(ClusterNode("a")))
    async with asyncio.timeout(10):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text().strip()}")


def test_a_complaint_is_each_thing_once_and_short() -> None:
    many = "".join(f'error when evicting pods/"web-{i}" -n "shop" (will retry after 5s): no\n' for i in range(99))
    assert len(complaint(many * 3)) == MAX_COMPLAINT + 1
    assert complaint(many * 3).startswith('evicting pods/"web-0" -n "shop": no; evicting pods/"web-1"')
    assert complaint("") == "kubectl said nothing"
    assert complaint("W1 noise\nerror: a\nerror: b\n") == "b"
