"""The engine with the stand-in k0s, as processes on this machine."""

from __future__ import annotations

import base64
import gzip
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kairos_core import Attachment, EngineError, EngineState, Join, Manifest, Role, SecretStr
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
    formed,
    joined,
    reached,
)

pytestmark = pytest.mark.system
Make = Callable[[str], Any]  # a Machine of conftest.py


async def test_it_keeps_the_contract_of_engines(machine: Make) -> None:
    await check_engine(machine("conformance").engine, patience=30.0)


async def test_a_master_a_second_master_and_a_worker_form_one_cluster(machine: Make) -> None:
    await check_cluster(machine)


async def test_a_further_master_can_join_one_that_began_alone(machine: Make) -> None:
    alone, second = machine("alone"), machine("second")
    _, join = await begun(alone, role=Role.MASTER)
    await joined(second, Role.HA, join)


async def test_a_token_of_another_cluster_is_a_failure_that_says_so_and_shows_no_token(machine: Make) -> None:
    one, two, other = machine("one"), machine("two"), machine("other")
    await begun(one)
    _, foreign = await begun(two)
    # All machines of this test have one address, and a join keeps the token's port: so it is changed by hand.
    token = _moved(json.loads(foreign.token.get_secret_value())["controller"], two.port, one.port)
    joining = other.engine()
    await joining.apply(other.plan(Role.HA, Join(f"https://127.0.0.1:{one.port}", SecretStr(token))))
    status = await reached(joining, EngineState.FAILED)
    assert "belongs to another cluster" in status.message
    assert token[40:80] not in repr(status)


def _moved(token: str, before: int, after: int) -> str:
    text = gzip.decompress(base64.b64decode(token)).decode()
    return base64.b64encode(gzip.compress(text.replace(f":{before}", f":{after}").encode())).decode()


async def test_a_machine_of_another_cluster_is_not_moved_in_silence(machine: Make) -> None:
    one, two, worker = machine("one"), machine("two"), machine("worker")
    (_, ours), (_, foreign) = [await begun(each) for each in (one, two)]
    engine = await joined(worker, Role.WORKER, ours)
    with pytest.raises(EngineError, match="another k0s cluster"):
        await engine.apply(worker.plan(Role.WORKER, foreign))


async def test_another_masters_token_restarts_no_worker_that_has_joined(machine: Make) -> None:
    (_, second, worker), (_, joining, working), join = await formed(machine)
    other = second.join(await reached(joining, EngineState.READY))
    assert other.token != join.token
    pid = worker.pid("k0sworker")
    await working.apply(worker.plan(Role.WORKER, other))
    assert worker.pid("k0sworker") == pid


async def test_a_restarted_agent_adopts_the_k0s_that_runs(machine: Make) -> None:
    await check_adoption(machine("a"))


async def test_a_k0s_that_dies_is_started_again(machine: Make) -> None:
    await check_revival(machine("a"))


async def test_a_changed_configuration_restarts_and_a_manifest_does_not(machine: Make) -> None:
    a = machine("a")
    engine, _ = await begun(a, role=Role.MASTER)
    pid = a.pid()
    place = Attachment(node_ip="127.0.0.1", manifests=(Manifest("kubevip.yaml", "kind: DaemonSet\n"),))
    await engine.apply(replace(a.plan(Role.MASTER), attachment=place))
    assert a.pid() == pid
    deployed = a.root / "var/lib/k0s/manifests/kairos/kubevip.yaml"
    assert deployed.read_text() == "kind: DaemonSet\n"
    await engine.apply(replace(a.plan(Role.MASTER), tls_names=("extra.example",)))
    await reached(engine, EngineState.READY)
    assert a.pid() != pid
    assert not deployed.exists()


async def test_no_secret_is_in_argv_and_files_with_secrets_are_for_their_owner_only(machine: Make) -> None:
    master, worker = machine("master"), machine("worker")
    _, join = await begun(master)
    await joined(worker, Role.WORKER, join)
    token = json.loads(join.token.get_secret_value())["worker"]
    assert "var/lib/kairos/engine_k0s/tokens.json" in check_secrets(master, token)
    assert "etc/k0s/token" in check_secrets(worker, (worker.root / "etc/k0s/token").read_text(), service="k0sworker")
    for file in ("etc/k0s/k0s.yaml", "var/log/k0scontroller.log"):
        assert stat.S_IMODE((master.root / file).stat().st_mode) == 0o600, file


async def test_the_kubeconfig_is_one_and_names_the_endpoint_else_the_node(machine: Make) -> None:
    await check_kubeconfig(machine("a"))


async def test_removal_leaves_only_what_apply_did_not_make(machine: Make) -> None:
    before = {"etc/k0s/k0s.yaml": "kind: ClusterConfig\n"}
    await check_removal(machine("a"), before, meanwhile={}, left=["usr/local/bin/k0s"])


async def test_flags_that_k0s_does_not_know_end_in_its_own_words(machine: Make) -> None:
    await check_unknown_flag(machine("a"), "unknown flag: --no-such-flag")
