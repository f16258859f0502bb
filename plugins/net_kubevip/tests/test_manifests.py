from pathlib import Path

import pytest
import yaml
from kairos_net_kubevip import KubeVipSettings
from kairos_net_kubevip.manifests import RBAC_FILE, WORKLOAD_FILE, environment, image_of, manifests_of

GOLDEN = Path(__file__).parent / "golden"
PLAIN = KubeVipSettings(eip="192.168.1.110")
STATIC = KubeVipSettings(eip="192.168.1.110", static_pod=True)
CONFIGURED = KubeVipSettings(
    eip="192.168.1.110,fd00::110",
    version="v1.1.0",
    config={"leaseDuration": 15, "enableLoadBalancer": True, "lbForwardingMethod": "masquerade"},
)
ONLY_RBAC = "kind: ClusterRole\nmetadata: {name: theirs}\n"
WHOLE = ONLY_RBAC + "---\nkind: DaemonSet\nmetadata: {name: theirs}\n"


@pytest.mark.parametrize(
    ("settings", "interface", "files"),
    [
        (PLAIN, "eth0", {RBAC_FILE: "rbac.yaml", WORKLOAD_FILE: "daemonset.yaml"}),
        (STATIC, "eth0", {WORKLOAD_FILE: "static-pod.yaml"}),
        (CONFIGURED, None, {RBAC_FILE: "rbac.yaml", WORKLOAD_FILE: "configured.yaml"}),
    ],
)
def test_the_manifests_are_as_agreed(settings: KubeVipSettings, interface: str | None, files: dict[str, str]) -> None:
    made = {manifest.name: manifest.content for manifest in manifests_of(settings, interface)}
    assert made == {name: (GOLDEN / golden).read_text() for name, golden in files.items()}


BGP = {"enableBGP": True, "bgpConfig": {"as": 65001}, "bgpPeerConfig": {"address": "192.168.1.1", "as": 65000}}


def test_by_bgp_each_master_announces_the_address_and_nobody_is_elected() -> None:
    found = environment(KubeVipSettings(eip="10.9.9.9", config=BGP), "eth0")
    expected = {
        "vip_arp": "false",
        "vip_leaderelection": "false",
        "vip_interface": "lo",
        "bgp_enable": "true",
        "bgp_routerinterface": "eth0",
        "bgp_as": "65001",
        "bgp_peeraddress": "192.168.1.1",
    }
    assert {name: found.get(name) for name in expected} == expected


def test_by_bgp_what_the_operator_says_wins() -> None:
    config = {**BGP, "bgpConfig": {"as": 65001, "routerID": "192.168.1.7"}, "enableLeaderElection": True}
    found = environment(KubeVipSettings(eip="10.9.9.9", interface="dummy0", config=config), "eth0")
    assert (found["vip_interface"], found["vip_leaderelection"]) == ("dummy0", "true")
    assert "bgp_routerinterface" not in found
    both = environment(KubeVipSettings(eip="10.9.9.9", config={**BGP, "enableARP": True}), "eth0")
    assert (both["vip_arp"], both["vip_interface"]) == ("true", "eth0")


def test_only_a_static_pod_is_left_to_the_kubelet() -> None:
    assert [manifest.static_pod for manifest in manifests_of(PLAIN, "eth0")] == [False, False]
    assert [manifest.static_pod for manifest in manifests_of(STATIC, "eth0")] == [True]


def test_a_downloaded_rbac_replaces_ours_and_keeps_the_daemonset() -> None:
    rbac, workload = manifests_of(PLAIN, "eth0", ONLY_RBAC)
    assert rbac.content == ONLY_RBAC
    assert yaml.safe_load(workload.content)["kind"] == "DaemonSet"


def test_a_downloaded_manifest_that_runs_kube_vip_replaces_all_of_ours() -> None:
    (only,) = manifests_of(PLAIN, "eth0", WHOLE)
    assert only.content == WHOLE


def test_a_static_pod_keeps_a_downloaded_rbac_apart() -> None:
    rbac, pod = manifests_of(STATIC, "eth0", ONLY_RBAC)
    assert (rbac.content, rbac.static_pod, pod.static_pod) == (ONLY_RBAC, False, True)


def test_each_address_family_has_its_prefix() -> None:
    assert environment(PLAIN, None)["vip_subnet"] == "32"
    assert environment(KubeVipSettings(eip="fd00::110"), None)["vip_subnet"] == "128"
    assert environment(CONFIGURED, None)["vip_subnet"] == "32,128"


def test_a_static_pod_takes_the_kubeconfig_that_is_configured() -> None:
    settings = KubeVipSettings(eip="192.168.1.110", static_pod=True, config={"k8sConfigFile": "/etc/k0s.yaml"})
    (pod,) = manifests_of(settings, "eth0")
    assert yaml.safe_load(pod.content)["spec"]["volumes"][0]["hostPath"]["path"] == "/etc/k0s.yaml"


def test_an_image_with_a_tag_or_digest_of_its_own_is_kept() -> None:
    assert image_of("registry:5000/kube-vip", "v1") == "registry:5000/kube-vip:v1"
    assert image_of("registry:5000/kube-vip:mine", "v1") == "registry:5000/kube-vip:mine"
    assert image_of("kube-vip@sha256:00", "v1") == "kube-vip@sha256:00"


def test_a_password_in_a_manifest_is_in_no_repr() -> None:
    settings = KubeVipSettings(eip="192.168.1.110", config={"bgpPeerConfig": {"password": "hunter2"}})
    made = manifests_of(settings, "eth0")
    assert any("hunter2" in manifest.content for manifest in made)
    assert "hunter2" not in repr(made)
