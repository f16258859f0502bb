import contextlib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.cluster.kubeconfig import MAX_KUBECONFIG, rewrite_kubeconfig, server_address
from kairos_core.errors import ConfigError, EngineError

SERVER = "https://10.1.0.7:6443"
K3S = """\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: MTI3LjAuMC4xZGVmYXVsdA==
    server: https://127.0.0.1:6443
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
preferences: {}
users:
- name: default
  user:
    client-certificate-data: Q0VSVA==
    client-key-data: S0VZ
"""


def test_the_kubeconfig_of_k3s_gets_its_server_and_its_names() -> None:
    expected = K3S.replace("https://127.0.0.1:6443", SERVER)
    for field in ("name", "cluster", "user", "current-context"):
        expected = expected.replace(f"{field}: default", f"{field}: home")
    assert rewrite_kubeconfig(K3S, SERVER, "home") == expected


def test_a_second_rewriting_changes_nothing() -> None:
    once = rewrite_kubeconfig(K3S, SERVER, "home")
    assert rewrite_kubeconfig(once, SERVER, "home") == once
    assert rewrite_kubeconfig(once, "https://192.0.2.1:6443", "home") == once


def test_the_name_default_stays_where_it_is_wanted() -> None:
    assert rewrite_kubeconfig(K3S, SERVER, "default") == K3S.replace("https://127.0.0.1:6443", SERVER)


@pytest.mark.parametrize(
    ("server", "is_replaced"),
    [
        ("https://127.0.0.1:6443", True),
        ("https://127.8.9.10:6443", True),
        ("https://[::1]:6443", True),
        ("https://localhost:6443", True),
        ("https://0.0.0.0:6443", True),
        ("https://192.0.2.4:6443", False),
        ("https://127.0.0.1.example:6443", False),
        ("https://proxy.example/127.0.0.1", False),
    ],
)
def test_only_a_loopback_server_is_replaced(server: str, is_replaced: bool) -> None:
    text = K3S.replace("https://127.0.0.1:6443", server)
    assert _server(rewrite_kubeconfig(text, SERVER, "home")) == (SERVER if is_replaced else server)


def test_without_a_port_in_the_address_the_port_of_the_kubeconfig_stays() -> None:
    text = K3S.replace(":6443", ":7443")
    assert _server(rewrite_kubeconfig(text, "https://[fd00::1]", "home")) == "https://[fd00::1]:7443"
    assert _server(rewrite_kubeconfig(text, SERVER, "home")) == SERVER


def test_further_clusters_users_and_fields_are_kept() -> None:
    text = K3S.replace("clusters:\n", "clusters:\n- cluster: {server: https://other:1}\n  name: other\n")
    text = text.replace("preferences: {}", "extensions: [{name: x, extension: {y: 1}}]")
    config = yaml.safe_load(rewrite_kubeconfig(text, SERVER, "home"))
    assert config["clusters"][0] == {"cluster": {"server": "https://other:1"}, "name": "other"}
    assert config["extensions"] == [{"name": "x", "extension": {"y": 1}}]


@pytest.mark.parametrize("secret", ["12:30:45", "0123", "1e3", "on", "2024-01-01", "1_000", "0x1f", ".5"])
def test_a_token_that_yaml_would_take_for_a_number_or_a_date_stays_text(secret: str) -> None:
    text = K3S.replace("client-key-data: S0VZ", f"token: {secret}\n    insecure: true")
    user = yaml.safe_load(rewrite_kubeconfig(text, SERVER, "home"))["users"][0]["user"]
    assert user["token"] == secret
    assert user["insecure"] is True


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a mapping"),
        ("- a", "not a mapping"),
        ("a: [", "not YAML"),
        ("kind: ClusterConfig", "kind: Config"),
        ("kind: Config", "names no cluster"),
        ("kind: Config\nclusters: 5", "not a list"),
        ("kind: Config\nclusters: [a]", "no name or no cluster"),
        ("kind: Config\nclusters: [{name: a}]", "no name or no cluster"),
        ("kind: Config\nclusters: [{name: a, cluster: {}}]", "no server"),
        ("kind: Config\nclusters: [{name: a, cluster: {server: 'https://[::1'}}]", "not a URL"),
        ("kind: Config\nclusters: [{name: a, cluster: {server: x}}]\ncontexts: {}\nusers: 1", "not a list"),
        ("[" * 3000, "not YAML"),
        ("x" * (MAX_KUBECONFIG + 1), "characters"),
        ("\0", "not YAML"),
        ("!!python/object/apply:os.system [ls]", "not YAML"),
        (K3S.replace("users:\n", "users:\n- {name: home, user: {}}\n"), "both 'default' and 'home'"),
    ],
)
def test_what_is_no_kubeconfig_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(EngineError, match=why):
        rewrite_kubeconfig(text, SERVER, "home")


def test_a_refusal_shows_nothing_of_the_text() -> None:
    with pytest.raises(EngineError) as caught:
        rewrite_kubeconfig("client-key-data: TOPSECRET: [", SERVER, "home")
    assert "TOPSECRET" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert "line 1" in str(caught.value)


@pytest.mark.parametrize(
    "server", ["", "10.0.0.1", "http://10.0.0.1:6443", "https://", "https://a:99999", "https://a/x", "https://[::1"]
)
def test_an_address_that_is_none_is_refused(server: str) -> None:
    with pytest.raises(ConfigError, match="write https://HOST:6443"):
        rewrite_kubeconfig(K3S, server, "home")


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a name"):
        rewrite_kubeconfig(K3S, SERVER, "")


def test_the_elastic_ip_comes_before_the_vpn_and_the_vpn_before_the_lan() -> None:
    assert server_address("192.0.2.9", "10.1.0.7", "192.168.1.7") == "https://192.0.2.9:6443"
    assert server_address(None, "10.1.0.7", "192.168.1.7") == "https://10.1.0.7:6443"
    assert server_address(None, None, "fd00::7") == "https://[fd00::7]:6443"
    assert server_address("", None, "lan.example", 7443) == "https://lan.example:7443"
    with pytest.raises(EngineError, match="no address"):
        server_address(None, None, None)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40), st.ip_addresses())
def test_any_name_and_address_come_back_from_the_rewritten_text(name: str, address: object) -> None:
    server = server_address(str(address), None, None)
    config = yaml.safe_load(rewrite_kubeconfig(K3S, server, name))
    assert config["clusters"][0]["cluster"]["server"] == server
    assert config["current-context"] == config["contexts"][0]["name"] == config["users"][0]["name"] == name
    assert config["contexts"][0]["context"] == {"cluster": name, "user": name}
    assert config["users"][0]["user"] == yaml.safe_load(K3S)["users"][0]["user"]


@given(st.text(max_size=300) | st.text(alphabet="kind: Cofglustersnamerv[]{}-\n&*!'\"|>", max_size=200))
def test_any_text_is_rewritten_or_refused(text: str) -> None:
    for candidate in (text, "kind: Config\n" + text, K3S + text):
        with contextlib.suppress(EngineError):  # the one way to refuse
            assert SERVER in rewrite_kubeconfig(candidate, SERVER, "home") or "127.0.0.1" not in candidate


def _server(text: str) -> object:
    return yaml.safe_load(text)["clusters"][0]["cluster"]["server"]
