"""EdgeVPN's shapes, letter by letter."""

import hashlib
import json

import pytest

from kairos_core.errors import ControlError
from kairos_core.runtime.control import Traffic
from kairos_core.testing.control import fake_machine
from kairos_core.testing.served import ServedNode

ONE, TWO, THREE = (str(fake_machine(number).peer) for number in (1, 2, 3))


def test_the_summary_counts_what_there_is(agent: ServedNode) -> None:
    agent.control.buckets["services"] = {"ssh": {"PeerID": ONE, "Name": "ssh"}}
    assert agent.get("/api/summary") == {
        "Files": 0,
        "Machines": 3,
        "Users": 0,
        "Services": 1,
        "BlockChain": 7,
        "OnChainNodes": 1,
        "Peers": 3,
        "NodeID": ONE,
    }


def test_a_machine_has_the_fields_of_the_reference_and_says_truly_whether_it_is_connected(agent: ServedNode) -> None:
    machines = agent.get("/api/machines")
    assert machines[1] == {
        "PeerID": TWO,
        "Hostname": "node-2",
        "OS": "linux",
        "Arch": "amd64",
        "Address": "10.1.0.2",
        "Version": "0.1.0",
        "Connected": True,
        "OnChain": True,
        "Online": True,
    }
    assert [machine["Connected"] for machine in machines] == [True, True, False]


def test_nodes_are_those_that_answer_and_the_peer_store_has_all(agent: ServedNode) -> None:
    assert agent.get("/api/nodes") == [{"ID": ONE, "Online": True}, {"ID": TWO, "Online": True}]
    assert agent.get("/api/peerstore")[2] == {"ID": THREE, "Online": False}


def test_the_ledger_gives_each_value_as_json_text(agent: ServedNode) -> None:
    agent.control.buckets["x"] = {"k": {"a": [1, None]}}
    assert agent.get("/api/ledger") == {"role": {"node-2": '"worker"'}, "x": {"k": '{"a":[1,null]}'}}
    assert agent.get("/api/ledger/role") == {"node-2": '"worker"'}
    assert agent.get("/api/ledger/role/node-2") == '"worker"'


def test_an_unknown_bucket_is_null_and_an_unknown_key_is_empty_both_with_200(agent: ServedNode) -> None:
    assert agent.get("/api/ledger/none") is None
    assert agent.get("/api/ledger/none/key") == ""
    assert agent.get("/api/ledger/role/none") == ""


def test_a_put_takes_the_value_from_the_path_and_a_delete_removes_it(agent: ServedNode) -> None:
    assert agent.ask("PUT", "/api/ledger/b/k/InYi").json == {"State": "Announcing"}
    assert agent.control.buckets["b"] == {"k": "InYi"}
    assert agent.ask("DELETE", "/api/ledger/b/k").json == {"State": "Announcing"}
    assert "b" not in agent.control.buckets


def test_a_slash_inside_a_segment_is_not_a_separator(agent: ServedNode) -> None:
    assert agent.ask("PUT", "/api/ledger/a%2Fb/c%2Fd/e%2Ff%20g").status == 200
    assert agent.control.buckets["a/b"] == {"c/d": "e/f g"}


def test_deleting_a_bucket_deletes_all_its_keys(agent: ServedNode) -> None:
    agent.control.buckets["b"] = {"1": 1, "2": 2}
    assert agent.ask("DELETE", "/api/ledger/b").json == {"State": "Announcing"}
    assert "b" not in agent.control.buckets


def test_a_write_that_fails_says_so(agent: ServedNode) -> None:
    agent.control.refusal = ControlError("only the author writes 'role'.")
    for method, path in (
        ("PUT", "/api/ledger/role/k/v"),
        ("DELETE", "/api/ledger/role"),
        ("DELETE", "/api/ledger/a/b"),
    ):
        answer = agent.ask(method, path)
        if path == "/api/ledger/a/b":
            assert answer.json["error"]["message"] == "only the author writes 'role'."
        assert (answer.status, answer.code) == (409, "refused")


def test_users_services_and_files_show_the_fields_of_the_reference_whatever_a_peer_wrote(agent: ServedNode) -> None:
    agent.control.buckets |= {
        "users": {"u": {"PeerID": TWO, "Timestamp": "t", "Extra": 1}, "bad": "text"},
        "services": {"s": {"PeerID": ONE, "Name": "ssh"}, "odd": {"Name": 5}},
        "files": {"f": {"PeerID": ONE, "Name": "notes"}},
    }
    assert agent.get("/api/users") == [{"PeerID": TWO, "Timestamp": "t"}]
    assert agent.get("/api/services") == [{"PeerID": ONE, "Name": "ssh"}, {"PeerID": "", "Name": "5"}]
    assert agent.get("/api/files") == [{"PeerID": ONE, "Name": "notes"}]


def test_dns_records_are_written_and_read(agent: ServedNode) -> None:
    record = {"Regex": "web.*", "Records": {"A": "10.1.0.9"}}
    assert agent.ask("POST", "/api/dns", json.dumps(record).encode()).json == {"State": "Announcing"}
    agent.control.buckets["dns"]["broken"] = 7
    assert agent.get("/api/dns") == [record]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"Regex":1,"Records":{}}', b'{"Regex":"","Records":{}}'])
def test_a_dns_record_that_is_none_is_a_bad_request(agent: ServedNode, body: bytes) -> None:
    answer = agent.ask("POST", "/api/dns", body)
    assert (answer.status, answer.code) == (400, "bad_body")


def test_the_block_holds_the_ledger_and_its_hash(agent: ServedNode) -> None:
    block = agent.get("/api/blockchain")
    assert list(block) == ["Index", "Timestamp", "Storage", "Hash", "PrevHash"]
    assert block["Storage"] == {"role": {"node-2": '"worker"'}}
    assert block["Index"] == 7
    text = json.dumps(block["Storage"], separators=(",", ":"))
    assert block["Hash"] == hashlib.sha256(text.encode()).hexdigest()


def test_bandwidth_is_404_without_a_counter_and_has_the_shape_with_one(agent: ServedNode) -> None:
    assert agent.ask("GET", "/api/metrics").status == 404
    agent.control.carried = Traffic(received=10, sent=20, receive_rate=1.5, send_rate=2.5)
    assert agent.get("/api/metrics") == {"TotalIn": 10, "TotalOut": 20, "RateIn": 1.5, "RateOut": 2.5}
