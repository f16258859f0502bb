"""The engine with the stand-in k0s, as processes on this machine."""

from __future__ import annotations

import base64
import gzip
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml

from kairos_core import Attachment, EngineError, EngineState, Join, Manifest, Role, SecretStr
from kairos_core.testing.engines import check_engine
from kairos_core.testing.machines import check_adoption, check_cluster, check_revival, check_secrets, reached

pytestmark = pytest.mark.system
Make = Callable[[str], Any]  # a Machine of conftest.py


async def test_it_keeps_the_contract_of_engines(machine: Make) -> None:
    await check_engine(machine("conformance").engine, patience=30.0)


async def test_a_master_a_second_master_and_a_worker_form_one_cluster(machine: Make) -> None:
    await check_cluster(machine)


async def test_a_further_master_can_join_one_that_began_alone(machine: Make) -> None:
    alone, second = machine("alone"), machine("second")
    engine = alone.engine()
    await engine.apply(alone.plan(Role.MASTER))
    join = alone.join(await reached(engine, EngineState.READY))
    joining = second.engine()
    await joining.apply(second.plan(Role.HA, join))
    await reached(joining, EngineState.READY)


async def test_a_token_of_another_cluster_is_a_failure_that_says_so_and_shows_no_token(machine: Make) -> None:
    one, two, other = machine("one"), machine("two"), machine("other")
    engines = one.engine(), two.engine()
    for each, engine in zip((one, two), engines, strict=True):
        await engine.apply(each.plan(Role.CLUSTER_INIT))
    await reached(engines[0], EngineState.READY)
    foreign = (await reached(engines[1], EngineState.READY)).join_token
    # All machines of this test have one address, and a join keeps the token's port: so it is changed by hand.
    token = _moved(json.loads(foreign.get_secret_value())["controller"], two.port, one.port)
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
    engines = one.engine(), two.engine()
    joins = []
    for each, engine in zip((one, two), engines, strict=True):
        await engine.apply(each.plan(Role.CLUSTER_INIT))
        joins.append(each.join(await reached(engine, EngineState.READY)))
    engine = worker.engine()
    await engine.apply(worker.plan(Role.WORKER, joins[0]))
    await reached(engine, EngineState.READY)
    with pytest.raises(EngineError, match="another k0s cluster"):
        await engine.apply(worker.plan(Role.WORKER, joins[1]))


async def test_another_masters_token_restarts_no_worker_that_has_joined(machine: Make) -> None:
    first, second, worker = machine("first"), machine("second"), machine("worker")
    engines = first.engine(), second.engine(), worker.engine()
    await engines[0].apply(first.plan(Role.CLUSTER_INIT))
    join = first.join(await reached(engines[0], EngineState.READY))
    await engines[1].apply(second.plan(Role.HA, join))
    await engines[2].apply(worker.plan(Role.WORKER, join))
    await reached(engines[2], EngineState.READY)
    other = (await reached(engines[1], EngineState.READY)).join_token
    assert other != join.token
    pid = worker.pid("k0sworker")
    await engines[2].apply(worker.plan(Role.WORKER, second.join(await engines[1].status())))
    assert worker.pid("k0sworker") == pid


async def test_a_restarted_agent_adopts_the_k0s_that_runs(machine: Make) -> None:
    await check_adoption(machine("a"))


async def test_a_k0s_that_dies_is_started_again(machine: Make) -> None:
    await check_revival(machine("a"))


async def test_a_changed_configuration_restarts_and_a_manifest_does_not(machine: Make) -> None:
    a = machine("a")
    engine = a.engine()
    await engine.apply(a.plan(Role.MASTER))
    await reached(engine, EngineState.READY)
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
    engine, joining = master.engine(), worker.engine()
    await engine.apply(master.plan(Role.CLUSTER_INIT))
    join = master.join(await reached(engine, EngineState.READY))
    await joining.apply(worker.plan(Role.WORKER, join))
    await reached(joining, EngineState.READY)
    token = json.loads(join.token.get_secret_value())["worker"]
    assert "var/lib/kairos/engine_k0s/tokens.json" in check_secrets(master, token)
    assert "etc/k0s/token" in check_secrets(worker, (worker.root / "etc/k0s/token").read_text(), service="k0sworker")
    for file in ("etc/k0s/k0s.yaml", "var/log/k0scontroller.log"):
        assert stat.S_IMODE((master.root / file).stat().st_mode) == 0o600, file


async def test_the_kubeconfig_is_one_and_names_the_endpoint_else_the_node(machine: Make) -> None:
    a = machine("a")
    engine = a.engine()
    for place, host in (
        (Attachment(node_ip="127.0.0.1"), "127.0.0.1"),
        (Attachment(node_ip="127.0.0.1", endpoint="localhost"), "localhost"),
    ):
        await engine.apply(replace(a.plan(Role.MASTER), attachment=place))
        status = await reached(engine, EngineState.READY)
        assert status.kubeconfig
        document = yaml.safe_load(status.kubeconfig.get_secret_value())
        assert document["clusters"][0]["cluster"]["server"] == f"https://{host}:{a.port}"
        assert document["users"][0]["user"]["client-key-data"]


async def test_removal_leaves_only_what_apply_did_not_make(machine: Make) -> None:
    a = machine("a")
    before = a.root / "etc/k0s/k0s.yaml"
    before.parent.mkdir(parents=True)
    before.write_text("kind: ClusterConfig\n")
    engine = a.engine()
    await engine.apply(a.plan(Role.MASTER))
    await reached(engine, EngineState.READY)
    pid = a.pid()
    await engine.remove()
    assert not os.path.exists(f"/proc/{pid}")
    left = {str(file.relative_to(a.root)) for file in a.root.rglob("*") if file.is_file()}
    assert left == {"usr/local/bin/k0s", "etc/k0s/k0s.yaml"}
    assert before.read_text() == "kind: ClusterConfig\n"


async def test_flags_that_k0s_does_not_know_end_in_its_own_words(machine: Make) -> None:
    a = machine("a")
    engine = a.engine("--no-such-flag=1")
    await engine.apply(a.plan(Role.MASTER))
    status = await reached(engine, EngineState.FAILED)
    assert "unknown flag: --no-such-flag" in status.message
