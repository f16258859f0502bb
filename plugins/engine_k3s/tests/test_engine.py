"""The engine with the stand-in k3s, as processes on this machine."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kairos_engine_k3s import K3sEngine, ServerSettings

from kairos_core import Attachment, EngineError, EngineState, Join, Manifest, NodePlan, Role, SecretStr
from kairos_core.testing.engines import check_engine
from kairos_core.testing.machines import (
    begun,
    check_adoption,
    check_cluster,
    check_kubeconfig,
    check_removal,
    check_revival,
    check_secrets,
    check_unknown_flag,
    joined,
    reached,
)

pytestmark = pytest.mark.system
Make = Callable[[str], Any]  # a Machine of conftest.py


async def test_it_keeps_the_contract_of_engines(machine: Make) -> None:
    await check_engine(machine("a").engine, patience=20.0)


async def test_a_master_a_second_master_and_a_worker_form_one_cluster_of_one_token(machine: Make) -> None:
    first, second = await check_cluster(machine)
    assert first.join_token == second.join_token


async def test_a_second_master_cannot_join_one_that_keeps_its_state_alone(machine: Make) -> None:
    alone, second = machine("alone"), machine("second")
    _, join = await begun(alone, role=Role.MASTER)
    joining = second.engine()
    await joining.apply(second.plan(Role.HA, join))
    assert "--cluster-init" in (await reached(joining, EngineState.FAILED)).message


@pytest.mark.parametrize("role", [Role.WORKER, Role.HA])
async def test_a_wrong_join_token_is_a_failure_that_says_so_and_shows_no_token(role: Role, machine: Make) -> None:
    master, other = machine("master"), machine("other")
    await begun(master)
    joining = other.engine()
    wrong = Join(f"https://127.0.0.1:{master.port}", SecretStr("quite-another-token"))
    await joining.apply(other.plan(role, wrong))
    status = await reached(joining, EngineState.FAILED)
    assert "join token is wrong" in status.message
    assert "401 Unauthorized" in status.message
    assert "quite-another-token" not in repr(status)


async def test_a_join_token_of_another_cluster_is_refused_before_it_is_sent(machine: Make) -> None:
    master, other = machine("master"), machine("other")
    await begun(master)
    joining = other.engine()
    foreign = Join(f"https://127.0.0.1:{master.port}", SecretStr(f"K10{'0' * 64}::server:{master.TOKEN}"))
    await joining.apply(other.plan(Role.WORKER, foreign))
    assert "belongs to another cluster" in (await reached(joining, EngineState.FAILED)).message
    assert "Failed to authenticate" not in (master.root / "var/log/k3s.log").read_text()


async def test_a_machine_under_a_name_that_is_taken_is_refused(machine: Make) -> None:
    master, other = machine("master"), machine("other")
    _, join = await begun(master)
    joining = other.engine()
    await joining.apply(replace(other.plan(Role.WORKER, join), node_name="master"))
    assert "joined under this node's name" in (await reached(joining, EngineState.FAILED)).message


async def test_a_restarted_agent_adopts_the_k3s_that_runs(machine: Make) -> None:
    await check_adoption(machine("a"))


async def test_a_k3s_that_dies_is_started_again(machine: Make) -> None:
    await check_revival(machine("a"))


async def test_an_equal_plan_restarts_nothing_and_a_changed_argument_does(machine: Make) -> None:
    a = machine("a")
    engine, _ = await begun(a, role=Role.MASTER)
    pid = a.pid()
    await engine.apply(a.plan(Role.MASTER))
    assert a.pid() == pid
    changed = a.engine("--node-label=tier=edge")
    await changed.apply(a.plan(Role.MASTER))
    await reached(changed, EngineState.READY)
    assert a.pid() != pid
    assert "--node-label=tier=edge" in a.argv()


async def test_no_secret_is_in_argv_and_files_with_secrets_are_for_their_owner_only(machine: Make) -> None:
    a = machine("a")
    await begun(a, "--agent-token=agents-only-secret", role=Role.MASTER)
    for secret in (a.TOKEN, "agents-only-secret"):
        assert "etc/rancher/k3s/k3s.env" in check_secrets(a, secret)


async def test_manifests_come_and_go_with_the_plan(machine: Make) -> None:
    a = machine("a")
    engine = a.engine()
    mine = a.root / "var/lib/rancher/k3s/server/manifests/mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("the operator's own")
    vip = replace(
        a.plan(Role.MASTER),
        attachment=Attachment(node_ip="127.0.0.1", manifests=(Manifest("kubevip.yaml", "kind: DaemonSet\n"),)),
    )
    await engine.apply(vip)
    await reached(engine, EngineState.READY)
    pid, deployed = a.pid(), mine.with_name("kubevip.yaml")
    assert deployed.read_text() == "kind: DaemonSet\n"
    assert stat.S_IMODE(deployed.stat().st_mode) == 0o600
    await a.engine().apply(a.plan(Role.MASTER))
    assert not deployed.exists()
    assert mine.exists()
    assert a.pid() == pid  # k3s watches the directory itself


async def test_the_kubeconfig_names_the_endpoint_else_the_node(machine: Make) -> None:
    await check_kubeconfig(machine("a"))


async def test_a_node_that_changes_its_role_runs_one_service_only(machine: Make) -> None:
    master, other = machine("master"), machine("other")
    _, join = await begun(master)
    changing = await joined(other, Role.WORKER, join)
    await changing.apply(other.plan(Role.HA, join))
    await reached(changing, EngineState.READY)
    assert not (other.root / "run/kairos/k3s-agent.pid").exists()
    assert not (other.root / "etc/rancher/k3s/k3s-agent.env").exists()


async def test_removal_leaves_only_what_apply_did_not_make(machine: Make) -> None:
    before = {"etc/rancher/k3s/k3s.env": "FROM_BEFORE=1\n"}
    meanwhile = {"etc/rancher/k3s/registries.yaml": "mirrors: {}\n"}
    left = ["usr/local/bin/k3s", "etc/rancher/node/password"]
    await check_removal(machine("a"), before, meanwhile=meanwhile, left=left)


async def test_without_k3s_it_says_what_to_do(tmp_path: Path) -> None:
    engine = K3sEngine(root=tmp_path)
    assert await engine.installed() is None
    with pytest.raises(EngineError, match="Put the k3s binary into /usr/local/bin"):
        await engine.apply(NodePlan(Role.MASTER, "a", Attachment()))


async def test_k3s_is_installed_from_a_directory_and_goes_with_the_engine(machine: Make, tmp_path: Path) -> None:
    a = machine("a")
    program = a.root / "usr/local/bin/k3s"
    release = tmp_path / "release"
    release.mkdir()
    program.rename(release / "k3s")
    settings = {"args": (f"--https-listen-port={a.port}", f"--kubelet-arg=healthz-port={a.health}")}
    engine = K3sEngine(ServerSettings.checked({**settings, "install": {"source": release}}), root=a.root)
    await engine.apply(a.plan(Role.MASTER))
    assert (await engine.installed() or "").startswith("stand-in")
    await reached(engine, EngineState.READY)
    await engine.remove()
    assert not program.exists()


async def test_flags_that_k3s_does_not_know_end_in_its_own_words(machine: Make) -> None:
    await check_unknown_flag(machine("a"), "flag provided but not defined: -no-such-flag")
