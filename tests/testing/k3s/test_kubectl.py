"""The stand-in's kubectl: as strict as the real one, and as slow to let a node go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kairos_core.testing.k3s.kubectl import BUDGET, KubectlError, kubectl, parse

DRAIN = ("drain", "a", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=5s")


class FakeCluster:
    """One node, and what was asked of it."""

    def __init__(self, *, ready: str = "True", **labels: str) -> None:
        self.asked: list[str] = []
        self.found: dict[str, Any] = {
            "metadata": {"name": "a", "labels": labels},
            "spec": {},
            "status": {"conditions": [{"type": "Ready", "status": ready}], "nodeInfo": {"kubeletVersion": "v1"}},
        }

    def ask(self, method: str, path: str, body: Any = None) -> str:
        self.asked.append(method)
        if path != "/api/v1/nodes/a":
            raise KubectlError('Error from server (NotFound): nodes "b" not found')
        self.found["spec"] |= (body or {}).get("spec", {})
        return ""

    def node(self, name: str) -> dict[str, Any]:
        self.ask("GET", f"/api/v1/nodes/{name}")
        return self.found


def run(cluster: FakeCluster, *argv: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("kairos_core.testing.k3s.kubectl.Administrator.read", lambda file: None)
    monkeypatch.setattr("kairos_core.testing.k3s.kubectl.Cluster", lambda _: cluster)
    return kubectl(argv, Path("/nowhere"), others=("controlnode",))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["drain", "a", "--no-such-flag"], "error: unknown flag: --no-such-flag"),
        (["delete", "node", "a", "--ignore-daemonsets"], "error: unknown flag: --ignore-daemonsets"),
        (["drain", "a", "--ignore-not-found"], "error: unknown flag: --ignore-not-found"),
        (["drain", "a", "--timeout=soon"], 'error: invalid argument "soon" for "--timeout" flag'),
        (["drain", "a", "--grace-period=1s"], 'error: invalid argument "1s" for "--grace-period" flag'),
        (["drain", "a", "--force=perhaps"], 'error: invalid argument "perhaps" for "--force" flag'),
    ],
)
def test_what_kubectl_refuses_is_refused(argv: list[str], message: str) -> None:
    with pytest.raises(KubectlError) as caught:
        parse(argv)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("argv", [["-o", "json"], ["-ojson"], ["-o=json"], ["--output=json"], ["--output", "json"]])
def test_a_value_is_read_in_every_form(argv: list[str]) -> None:
    line = parse(["--kubeconfig=/a", "get", "nodes", *argv])
    assert (line.words, line.flags) == (["get", "nodes"], {"kubeconfig": "/a", "output": "json"})


def test_after_two_dashes_all_are_words() -> None:
    assert parse(["drain", "--force", "--", "--all"]).words == ["drain", "--all"]


@pytest.mark.parametrize("missing", DRAIN[2:5])
def test_a_drain_needs_its_flags_for_the_pods_that_each_node_has(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word for word in DRAIN if word != missing]
    assert run(FakeCluster(), *given, monkeypatch=monkeypatch) == 1
    assert f"use {missing} to" in capsys.readouterr().err


def test_a_drained_node_is_cordoned(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = FakeCluster()
    assert run(cluster, *DRAIN, monkeypatch=monkeypatch) == 0
    assert run(cluster, *DRAIN, monkeypatch=monkeypatch) == 0
    assert cluster.asked == ["GET", "PATCH", "GET"]
    said = capsys.readouterr().out.splitlines()
    assert said == ["node/a cordoned", "node/a drained", "node/a already cordoned", "node/a drained"]


def test_a_budget_holds_a_drain_up_unless_it_is_bypassed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = FakeCluster(**{BUDGET: "web"})
    assert run(cluster, *DRAIN, monkeypatch=monkeypatch) == 1
    assert "Cannot evict pod as it would violate the pod's disruption budget." in capsys.readouterr().err
    assert cluster.found["spec"] == {"unschedulable": True}
    assert run(cluster, *DRAIN, "--disable-eviction", monkeypatch=monkeypatch) == 0


def test_pods_of_a_silent_node_end_only_for_who_does_not_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = FakeCluster(ready="Unknown")
    assert run(cluster, *DRAIN, monkeypatch=monkeypatch) == 1
    assert "to terminate: global timeout reached: 5s" in capsys.readouterr().err
    assert run(cluster, *DRAIN, "--skip-wait-for-delete-timeout=1", monkeypatch=monkeypatch) == 0


@pytest.mark.parametrize("argv", [("get", "node", "b"), ("delete", "node", "b"), ("delete", "controlnode", "b")])
def test_what_is_not_there_is_an_error_unless_it_is_ignored(
    argv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(FakeCluster(), *argv, monkeypatch=monkeypatch) == 1
    assert "(NotFound): " in capsys.readouterr().err
    assert run(FakeCluster(), *argv, "--ignore-not-found", monkeypatch=monkeypatch) == 0
    assert run(FakeCluster(), "delete", "pods", "b", "--ignore-not-found", monkeypatch=monkeypatch) == 1
