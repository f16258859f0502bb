import dataclasses
import json
import re
from typing import Any

import pytest

from kairos_core.api.app import OPERATIONS
from kairos_core.api.document import MAX_DEPTH
from kairos_core.api.schema import MachineShape, StatusShape
from kairos_core.errors import ControlError, StoreError
from kairos_core.model import Finding, PeerId, Role, Verdict
from kairos_core.runtime.control import Machine, NodeStatus, Traffic
from kairos_core.testing.control import fake_machine
from kairos_core.testing.served import ServedNode

TWO = str(fake_machine(2).peer)


def names(described: Any) -> set[str]:
    return {each.name for each in dataclasses.fields(described)}


def test_the_status_has_each_field_of_a_node_status(agent: ServedNode) -> None:
    status = agent.get("/api/v1/status")
    assert set(status) == names(StatusShape) == names(NodeStatus)
    assert set(status["me"]) == names(MachineShape) == names(Machine)
    assert status["me"]["role"] == "master"
    assert status["machines"][1]["peer"] == TWO
    assert status["milestones"] == {"started": 1000.0, "discovered": 1001.5}


def test_machines_and_plugins_are_those_of_the_status(agent: ServedNode) -> None:
    status = agent.get("/api/v1/status")
    assert agent.get("/api/v1/machines") == status["machines"]
    assert agent.get("/api/v1/plugins") == status["plugins"] != []


def test_an_entry_is_written_read_and_deleted_with_its_type(agent: ServedNode) -> None:
    value = {"a": [1, 2.5, None, True, "é"], "b": {}}
    put = agent.ask("PUT", "/api/v1/ledger/b/k%2F1", json.dumps(value).encode())
    assert (put.status, put.json) == (200, {"bucket": "b", "key": "k/1", "value": value})
    assert agent.get("/api/v1/ledger/b/k%2F1") == put.json
    assert agent.get("/api/v1/ledger/b") == {"k/1": value}
    assert agent.get("/api/v1/ledger")["b"] == {"k/1": value}
    deleted = agent.ask("DELETE", "/api/v1/ledger/b/k%2F1")
    assert (deleted.status, deleted.body) == (204, b"")
    assert agent.ask("GET", "/api/v1/ledger/b/k%2F1").code == "no_entry"


def test_what_is_not_there_is_a_typed_404(agent: ServedNode) -> None:
    for path, code in (
        ("/api/v1/ledger/none", "no_bucket"),
        ("/api/v1/ledger/none/key", "no_entry"),
        ("/api/v1/nothing", "no_path"),
        ("/", "no_path"),
        ("/api/v1/status/", "no_path"),
    ):
        answer = agent.ask("GET", path)
        assert (answer.status, answer.code) == (404, code)
        assert answer.headers["content-type"] == "application/json"


def test_a_method_that_a_path_does_not_have_is_405_and_says_which_it_has(agent: ServedNode) -> None:
    answer = agent.ask("PATCH", "/api/v1/ledger/b/k")
    assert (answer.status, answer.code) == (405, "bad_method")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"NaN",
        b"1e999",
        b"\xff",
        b"null",
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b"18446744073709551616",
        b"9" * 5000,
        b"[" * 30000,
        b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
    ],
)
def test_a_body_that_the_ledger_cannot_hold_is_a_bad_request(agent: ServedNode, body: bytes) -> None:
    answer = agent.ask("PUT", "/api/v1/ledger/b/k", body)
    assert (answer.status, answer.code) == (400, "bad_body")
    assert "b" not in agent.control.buckets


def test_the_largest_and_deepest_values_are_taken(agent: ServedNode) -> None:
    for body in (b"18446744073709551615", b"-9223372036854775808", b"[" * MAX_DEPTH + b"]" * MAX_DEPTH):
        assert agent.ask("PUT", "/api/v1/ledger/b/k", body).status == 200


def test_numbers_of_a_peer_that_json_lacks_become_null(agent: ServedNode) -> None:
    agent.control.buckets["b"] = {"k": [float("nan"), {"x": float("-inf")}, 1.0]}
    assert agent.get("/api/v1/ledger/b/k")["value"] == [None, {"x": None}, 1.0]
    assert agent.get("/api/ledger/b/k") == '[null,{"x":null},1.0]'


def test_what_the_node_refuses_is_a_conflict_and_what_it_cannot_do_is_unavailable(agent: ServedNode) -> None:
    agent.control.refusal = ControlError("the bucket 'role' is closed.")
    assert agent.ask("PUT", "/api/v1/ledger/role/k", b"1").code == "refused"
    agent.control.refusal = StoreError("cannot save: the disk is full.")
    answer = agent.ask("DELETE", "/api/v1/ledger/role/k")
    assert (answer.status, answer.code) == (503, "store")


def test_a_defect_is_logged_and_answered_without_its_details(
    agent: ServedNode, caplog: pytest.LogCaptureFixture
) -> None:
    agent.control.refusal = RuntimeError("secret detail")
    answer = agent.ask("PUT", "/api/v1/ledger/b/k", b"1")
    assert (answer.status, answer.code) == (500, "defect")
    assert b"secret" not in answer.body
    assert "PUT /api/v1/ledger/b/k failed" in caplog.text


def test_a_role_is_set_by_peer_id_short_form_or_name(agent: ServedNode) -> None:
    peer = PeerId.parse(TWO)
    for node, wish, expected in (
        (TWO, "master", Role.MASTER),
        (TWO[-8:], "none", Role.NONE),
        ("node-2", "master/ha", Role.HA),
        ("node-2", "auto", None),
    ):
        answer = agent.ask("PUT", f"/api/v1/roles/{node}", json.dumps({"role": wish}).encode())
        assert (answer.status, answer.json) == (200, {"peer": TWO, "role": wish})
        assert agent.control.roles == {peer: expected}


def test_a_role_can_be_set_for_a_node_that_was_not_seen_yet(agent: ServedNode) -> None:
    peer = fake_machine(99).peer
    assert agent.ask("PUT", f"/api/v1/roles/{peer}", b'{"role":"worker"}').status == 200
    assert agent.control.roles == {peer: Role.WORKER}


def test_a_name_of_two_nodes_or_of_none_sets_no_role(agent: ServedNode) -> None:
    agent.control.change(machines=(fake_machine(1, name="twin"), fake_machine(2, name="twin")))
    twin = agent.ask("PUT", "/api/v1/roles/twin", b'{"role":"worker"}')
    assert (twin.status, twin.code) == (409, "ambiguous")
    assert TWO in twin.json["error"]["message"]
    nobody = agent.ask("PUT", "/api/v1/roles/nobody", b'{"role":"worker"}')
    assert (nobody.status, nobody.code) == (404, "no_node")
    assert agent.control.roles == {}


@pytest.mark.parametrize("body", [b"{}", b'"worker"', b'{"role":"king"}', b'{"role":null}', b'{"role":"none","x":1}'])
def test_a_role_that_is_none_is_a_bad_request_that_lists_the_roles(agent: ServedNode, body: bytes) -> None:
    answer = agent.ask("PUT", "/api/v1/roles/node-2", body)
    assert (answer.status, answer.code) == (400, "bad_body")
    assert "master/clusterinit" in answer.json["error"]["message"]


def test_the_kubeconfig_is_yaml_and_its_absence_a_404_with_the_reason(agent: ServedNode) -> None:
    missing = agent.ask("GET", "/api/v1/kubeconfig")
    assert (missing.status, missing.code) == (404, "no_kubeconfig")
    assert "no master is ready" in missing.json["error"]["message"]
    agent.control.config = "kind: Config\n"
    answer = agent.ask("GET", "/api/v1/kubeconfig")
    assert (answer.body, answer.headers["content-type"]) == (b"kind: Config\n", "application/yaml")


def test_the_openapi_document_has_each_route_and_its_references_resolve(agent: ServedNode) -> None:
    document = agent.get("/api/v1/openapi.json")
    routes = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert routes == {(operation.method, operation.path) for operation in OPERATIONS}
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= set(document["components"]["schemas"])
    ids = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(ids) == len(set(ids))


def test_the_openapi_document_says_where_a_token_is_needed(agent: ServedNode) -> None:
    paths = agent.get("/api/v1/openapi.json")["paths"]
    assert "security" in paths["/api/v1/kubeconfig"]["get"]
    assert "security" in paths["/api/v1/roles/{node}"]["put"]
    assert "security" not in paths["/api/v1/status"]["get"]


def test_every_answer_says_its_date_and_is_not_cached(agent: ServedNode) -> None:
    for path in ("/api/v1/status", "/nowhere"):
        headers = agent.ask("GET", path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["date"].endswith("GMT")


def test_head_has_the_headers_of_get_and_no_body(agent: ServedNode) -> None:
    for path in ("/api/v1/status", "/api/v1/events"):
        answer = agent.ask("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")


def test_the_metrics_count_drops_by_name_and_peers_and_say_the_milestones(agent: ServedNode) -> None:
    agent.control.carried = Traffic(5, 6, 0, 0)
    answer = agent.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.body.decode().splitlines()
    for line in (
        'kairos_drops_total{reason="unknown_key"} 4.0',
        "kairos_peers 2.0",
        "kairos_peers_alive 1.0",
        "kairos_ledger_entries 7.0",
        'kairos_milestone_timestamp_seconds{milestone="discovered"} 1001.5',
        'kairos_phase{phase="ready"} 1.0',
        'kairos_transport_bytes_total{direction="sent"} 6.0',
    ):
        assert line in lines
    assert any(line.startswith("process_open_fds ") for line in lines)


def test_the_doctor_says_what_each_check_found(agent: ServedNode) -> None:
    agent.control.findings = (Finding("clock", Verdict.WRONG, "a day off", "timedatectl set-ntp true"),)
    assert agent.get("/api/v1/doctor") == [
        {"check": "clock", "verdict": "wrong", "message": "a day off", "remedy": "timedatectl set-ntp true"}
    ]


def test_a_new_generation_is_refused_with_the_reason_unless_forced(agent: ServedNode) -> None:
    path = "/api/v1/cluster/new-generation"
    agent.control.refusal = ControlError("the cluster lives")
    refused = agent.ask("POST", path, b'{"force": false}')
    assert (refused.status, refused.code) == (409, "refused")
    assert agent.ask("POST", path, b'{"force": true}').json == {"generation": 2}
    for body in (b"[]", b'{"force": 7}', b'{"now": true}'):
        assert agent.ask("POST", path, body).code == "bad_body"


def test_a_cluster_is_adopted_by_its_name(agent: ServedNode) -> None:
    assert agent.ask("POST", "/api/v1/cluster/adopt", b'{"cluster_id": "k-2"}').json == {"cluster_id": "k-2"}
    assert agent.control.adopted == ["k-2"]
    assert agent.ask("POST", "/api/v1/cluster/adopt", b"{}").code == "bad_body"


def test_this_machine_leaves_in_order_unless_forced(agent: ServedNode) -> None:
    me = str(agent.control.node.me.peer)
    assert agent.ask("POST", "/api/v1/leave", b"{}").json == {"peer": me}
    assert agent.ask("POST", "/api/v1/leave", b'{"force": true}').json == {"peer": me}
    assert agent.control.left == [False, True]
    for body in (b"[]", b'{"force": 7}', b'{"now": true}'):
        assert agent.ask("POST", "/api/v1/leave", body).code == "bad_body"
    agent.control.refusal = ControlError("the only master")
    assert agent.ask("POST", "/api/v1/leave", b"{}").status == 409


def test_a_network_says_how_it_does_and_takes_orders(agent: ServedNode) -> None:
    assert agent.get("/api/v1/networks/vpn") == {"peers": 2, "interface": "kairos0"}
    assert agent.ask("GET", "/api/v1/networks/none").code == "no_network"
    agent.control.answer = {"done": True}
    order = {"peer_remove": {"name": "phone"}}
    answer = agent.ask("POST", "/api/v1/networks/vpn", json.dumps(order).encode())
    assert (answer.status, answer.json) == (200, {"done": True})
    assert agent.control.orders == [("vpn", order)]


@pytest.mark.parametrize("body", [b"[]", b"5", b"{", b'"peer_add"'])
def test_an_order_that_is_no_object_is_refused(agent: ServedNode, body: bytes) -> None:
    answer = agent.ask("POST", "/api/v1/networks/vpn", body)
    assert (answer.status, answer.code) == (400, "bad_body")
    assert not agent.control.orders


def test_an_order_that_a_network_refuses_is_a_conflict(agent: ServedNode) -> None:
    agent.control.refusal = ControlError("the name is taken")
    answer = agent.ask("POST", "/api/v1/networks/vpn", b"{}")
    assert (answer.status, answer.code) == (409, "refused")
