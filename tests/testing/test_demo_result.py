"""What the demo measures, and when it calls a cluster faulty."""

import json

import yaml

from kairos_core.protocol.token import parse_token
from kairos_core.testing.agents import Network
from kairos_core.testing.demo import DemoNode, DemoResult

MASTER = DemoNode("node-1", "12D3KooWA", "master", "10.1.0.1", True)
WORKER = DemoNode("node-2", "12D3KooWB", "worker", "10.1.0.2", True)
PINGS = {("node-1", "node-2"): 0.5, ("node-2", "node-1"): 1.5}


def result(nodes=(MASTER, WORKER), pings=PINGS) -> DemoResult:
    seconds = {"discovered": 0.1, "roles": 0.2, "vpn": 0.3, "engine": 0.4}
    return DemoResult(tuple(nodes), seconds, pings, 1.0, "kind: Config\n", "stand-in")


def test_the_document_has_exactly_the_promised_shape() -> None:
    assert json.loads(json.dumps(result().document())) == {
        "nodes": [
            {"name": "node-1", "peer_id": "12D3KooWA", "role": "master", "vpn_ip": "10.1.0.1", "ready": True},
            {"name": "node-2", "peer_id": "12D3KooWB", "role": "worker", "vpn_ip": "10.1.0.2", "ready": True},
        ],
        "seconds": {"discovered": 0.1, "roles": 0.2, "vpn": 0.3, "engine": 0.4},
        "ping": {"pairs": 2, "ok": 2, "median_ms": 1.0},
        "kubeconfig": "kind: Config\n",
        "engine": "stand-in",
    }


def test_one_master_and_no_lost_ping_is_no_fault() -> None:
    assert result().fault() is None


def test_two_initialisers_are_a_fault_that_names_them() -> None:
    second = DemoNode("node-2", "12D3KooWB", "master/clusterinit", "10.1.0.2", True)
    assert "not 2: ['node-1', 'node-2']" in str(result(nodes=(MASTER, second)).fault())


def test_no_initialiser_is_a_fault() -> None:
    assert "not 0" in str(result(nodes=(WORKER,)).fault())


def test_a_lost_ping_is_counted_and_is_a_fault_that_names_it() -> None:
    lossy = result(pings=PINGS | {("node-1", "node-2"): None})
    assert lossy.document()["ping"]["ok"] == 1
    assert "node-1 -> node-2" in str(lossy.fault())


def test_a_network_has_a_new_token_whose_quorum_is_a_majority() -> None:
    one, other = Network.new(5), Network.new(5)
    assert one.token != other.token
    terms = parse_token(one.token).kairos
    assert terms is not None
    assert terms.quorum == 3
    assert one.token not in repr(one)


def test_the_configuration_is_the_same_for_every_node_and_takes_exceptions() -> None:
    network = Network.new(3, ha_masters=2)
    p2p = yaml.safe_load(network.cloud_config(role="none", minimum_nodes=1))["p2p"]
    assert p2p["network_token"] == network.token
    assert (p2p["role"], p2p["minimum_nodes"]) == ("none", 1)
    assert p2p["auto"] == {"ha": {"enable": True, "master_nodes": 2}}
    assert network.cloud_config() == network.cloud_config()
