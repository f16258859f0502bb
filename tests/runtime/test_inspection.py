import asyncio
import json

import pytest

from kairos_core.cluster.controller import Actions, Local
from kairos_core.cluster.quorum import Decision
from kairos_core.cluster.view import View
from kairos_core.config import parse_config
from kairos_core.errors import ControlError, StoreError
from kairos_core.model import Finding, PeerId, Role, Verdict
from kairos_core.protocol.buckets import CLUSTERS, REPORTS
from kairos_core.protocol.token import format_token
from kairos_core.runtime.inspection import NodeControl, as_json, figures
from kairos_core.runtime.node import Node
from kairos_core.runtime.plugins import load_plugins
from kairos_core.testing.transports import token_for_test

KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{name: default, cluster: {server: 'https://127.0.0.1:6443'}}]
contexts: [{name: default, context: {cluster: default, user: default}}]
users: [{name: default, user: {token: hush}}]
current-context: default
"""


@pytest.fixture
async def node(tmp_path):
    """A whole node that has introduced itself and does not run."""
    plugins = load_plugins()
    text = f"#cloud-config\nhostname: edge-1\np2p:\n  network_token: {format_token(token_for_test())}\n"
    node = Node(parse_config([("test", text)], plugins.sections()), plugins, tmp_path)
    node._introduce()
    yield node
    node.pump._store.close()
    node.pump._thread.shutdown()


@pytest.fixture
def control(node):
    return NodeControl(node)


def decide(node, init: PeerId) -> Decision:
    durable = node.reconciler.actions.local.durable
    decision = Decision("kairos-1", init, durable.incarnation)
    node.reconciler.actions = Actions(Local(durable), decision=decision, phase="ready", role=Role.MASTER)
    return decision


def test_json_has_text_for_bytes_and_for_keys():
    assert as_json({b"k": [b"\x00\xff", 1, None, {"n": {"deep": b""}}]}) == {
        "b'k'": ["AP8=", 1, None, {"n": {"deep": ""}}]
    }


async def test_the_status_names_this_node_before_anything_has_happened(control, node):
    status = control.status()
    assert (status.me.name, status.me.peer, status.me.role) == ("edge-1", node.pump.me, None)
    assert [machine.name for machine in status.machines] == ["edge-1"]
    assert status.warnings == ()
    assert {row["chosen"] for row in status.plugins} == {"", "yes"}


async def test_a_status_does_not_repeat_what_this_node_said_before_its_restart(control, node):
    before = {"role": "master", "engine": "ready", "phase": "ready", "message": "", "address": "10.1.0.1"}
    node.pump.publish(REPORTS, str(node.pump.me), before)
    me = control.status().me
    assert (me.role, me.engine, me.address) == (None, "", None)


async def test_every_trouble_is_a_warning(control, node):
    node.pump.store_error, node.pump.store_damage = "the disk is full", "the ledger was set aside"
    node.reconciler.save_error = "cannot save"
    node.discovery_errors["mdns"] = "no socket"
    for number in (1, 2):
        node.pump.clock.heard(PeerId(bytes([number]) * 32), node.pump.clock.own_ms() + 86_400_000)
    clock, *others = control.status().warnings
    assert "behind the network's" in clock
    assert others == ["cannot save", "the disk is full", "the ledger was set aside", "no socket"]


async def test_only_open_buckets_are_written(control):
    await control.put("values", "k", {"a": [1, 2.5, None, True]})
    assert control.ledger("values") == {"values": {"k": {"a": [1, 2.5, None, True]}}}
    await control.delete("values", "k")
    assert control.ledger("values") == {}
    for bucket in ("peers", "leases", "registers", "secrets", "claims", "anything"):
        with pytest.raises(ControlError, match="is not open to writing"):
            await control.put(bucket, "k", 1)


@pytest.mark.parametrize(
    ("key", "value"), [("", 1), ("k" * 200, 1), ("k", "x" * 20_000), ("k", 1 << 80), ("k", [[[]]] * 1)]
)
async def test_what_the_ledger_cannot_hold_is_refused_in_a_sentence(control, key, value):
    if value == [[[]]]:
        for _ in range(2000):
            value = [value]
    with pytest.raises(ControlError):
        await control.put("values", key, value)
    assert control.ledger("values") == {}


async def test_a_write_that_is_not_saved_yet_says_so_and_stands(control, node, monkeypatch):
    def full(batch):
        raise StoreError("the disk is full")

    monkeypatch.setattr(node.pump._store, "save", full)
    with pytest.raises(ControlError, match="written, but not saved on this machine yet: the disk is full"):
        await control.put("values", "k", 1)
    assert control.ledger("values") == {"values": {"k": 1}}


async def test_whoever_watches_sees_json(control):
    changes = control.watch()
    first = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    await control.put("values", "k", {"a": 1})
    assert await first == ("values", "k", {"a": 1})
    await changes.aclose()


async def test_a_role_is_set_for_known_nodes_only_and_taken_back(control, node):
    await control.set_role(node.pump.me, Role.WORKER)
    assert control.ledger("roles") == {"roles": {str(node.pump.me): {"role": "worker"}}}
    await control.set_role(node.pump.me, None)
    assert control.ledger("roles") == {}
    with pytest.raises(ControlError, match="no node of this network is called"):
        await control.set_role(PeerId(b"x" * 32), Role.WORKER)


async def test_the_kubeconfig_is_refused_with_the_reason(control, node):
    with pytest.raises(ControlError, match="there is no cluster yet"):
        control.kubeconfig()
    decision = decide(node, node.pump.me)
    with pytest.raises(ControlError, match="no master is ready yet"):
        control.kubeconfig()
    node.reconciler.vault.share(decision.cluster_id, "kubeconfig", KUBECONFIG, [], View(me=node.pump.me))
    with pytest.raises(ControlError, match="has no address under which others reach it"):
        control.kubeconfig()
    node.reconciler.vault.share(decision.cluster_id, "kubeconfig", "no: config", [], View(me=node.pump.me))
    node.pump.publish(CLUSTERS, f"{decision.cluster_id}/{node.pump.me}", {"endpoint": "10.1.0.7"})
    with pytest.raises(ControlError, match="is not a kubeconfig"):
        control.kubeconfig()


async def test_the_kubeconfig_has_the_server_of_the_master(control, node):
    decision = decide(node, node.pump.me)
    node.reconciler.vault.share(decision.cluster_id, "kubeconfig", KUBECONFIG, [], View(me=node.pump.me))
    node.pump.publish(CLUSTERS, f"{decision.cluster_id}/{node.pump.me}", {"endpoint": "10.1.0.7"})
    assert "https://10.1.0.7:6443" in control.kubeconfig()


async def test_a_worker_is_told_where_to_get_the_kubeconfig(control, node):
    decide(node, PeerId(b"m" * 32))
    node.reconciler.actions = Actions(
        node.reconciler.actions.local, decision=node.reconciler.actions.decision, role=Role.WORKER
    )
    with pytest.raises(ControlError, match="kairos bridge"):
        control.kubeconfig()


async def test_nothing_secret_is_in_a_status(control, node):
    decision = decide(node, node.pump.me)
    node.reconciler.vault.share(decision.cluster_id, "kubeconfig", KUBECONFIG, [], View(me=node.pump.me))
    assert "hush" not in repr(control.status()) + json.dumps(control.ledger())


async def test_a_network_that_is_not_up_has_nothing_to_say_and_obeys_nobody(control):
    assert control.network("vpn") == {}
    assert control.status().networks["vpn"] == {}
    with pytest.raises(ControlError, match="the VPN is not up on this node"):
        await control.order("vpn", {"peer_show": {"name": "phone"}})


async def test_an_unknown_network_is_answered_with_those_that_are_there(control):
    with pytest.raises(ControlError, match=r"no network 'wan'; it has: .*vpn"):
        control.network("wan")
    with pytest.raises(ControlError, match="no network 'wan'"):
        await control.order("wan", {})


async def test_a_network_that_fails_to_say_how_it_does_hides_nothing_else(control, monkeypatch, caplog):
    def fail(_self):
        raise RuntimeError("broken")

    monkeypatch.setattr("kairos_net_vpn.network.Vpn.state", fail)
    status = control.status()
    assert status.networks["vpn"] == {"failed": 1}
    assert status.network_id
    assert "broken" in control.network("vpn")["error"]
    assert "the network vpn cannot say how it does" in caplog.text


def test_only_numbers_are_figures():
    assert figures({"peers": 2, "rate": 0.5, "up": True, "name": "x", "list": [1]}) == {"peers": 2, "rate": 0.5}


async def test_the_doctor_asks_the_networks_and_a_mistake_of_one_hides_nothing(control, node, monkeypatch):
    [(network, _)] = node.parts.networks
    found = Finding("VPN peers", Verdict.WRONG, "node-2 cannot be reached", "let UDP in")
    monkeypatch.setattr(network, "examine", lambda: [found])
    assert found in control.doctor()

    def fail():
        raise RuntimeError("a mistake")

    monkeypatch.setattr(network, "examine", fail)
    findings = control.doctor()
    assert [(each.check, each.verdict) for each in findings if "a mistake" in each.message] == [("vpn", Verdict.WRONG)]
    assert "plugins" in {each.check for each in findings}
