import pickle

import pytest

from kairos_core.config import parse_config
from kairos_core.errors import ConfigError, PluginError
from kairos_core.model import Role
from kairos_core.protocol.token import format_token
from kairos_core.runtime import assembly
from kairos_core.runtime.plugins import Plugins, load_plugins
from kairos_core.testing.transports import token_for_test

TOKEN = format_token(token_for_test())


def parts(tmp_path, plugins: Plugins, p2p: str = "", more: str = "", kind: str = "node") -> assembly.Parts:
    text = f"#cloud-config\np2p:\n  network_token: {TOKEN}\n{p2p}{more}"
    return assembly.make_parts(parse_config([("test", text)], plugins.sections()), plugins, tmp_path, kind)


def without(*distributions: str) -> Plugins:
    return load_plugins([f"kairos-{name}" for name in distributions])


def test_with_everything_installed_nothing_is_missing(tmp_path):
    made = parts(tmp_path, load_plugins())
    assert (made.store, made.engine) != (None, None)
    assert "mdns" in made.discoveries
    assert made.chosen["network"] == ("vpn",)
    assert made.warnings == []
    assert list(tmp_path.iterdir()) == [], "nothing is opened yet"


@pytest.mark.parametrize(
    ("missing", "more", "warning"),
    [
        (("net-vpn",), "", "no plugin offers it; nodes use their LAN addresses"),
        (("net-kubevip",), "kubevip:\n  eip: 192.0.2.99\n", "the elastic IP is not used"),
        (("discovery-mdns", "discovery-dht"), "", "waits until others dial it"),
        (("store-sqlite", "store-files"), "", "forgotten at restart"),
        (("engine-k3s", "engine-k0s"), "", "only coordinates"),
    ],
)
def test_what_is_missing_turns_its_feature_off_and_is_said(tmp_path, missing, more, warning):
    made = parts(tmp_path, without(*missing), more=more)
    assert [each for each in made.warnings if warning in each]
    assert len(made.warnings) == 1
    absent = {
        "net-vpn": made.networks,
        "net-kubevip": "kubevip" in made.chosen["network"],
        "discovery-mdns": made.discoveries,
        "store-sqlite": made.store,
        "engine-k3s": made.engine,
    }
    assert not absent[missing[0]]


def test_without_a_transport_there_is_no_node(tmp_path):
    with pytest.raises(PluginError, match=r"no transport is installed.*Install kairos-transport-tls"):
        parts(tmp_path, without("transport-tls"))


def test_what_is_switched_off_is_not_missed(tmp_path):
    off = "  vpn:\n    create: false\n"
    assert parts(tmp_path, without("net-vpn"), off).warnings == []
    seeds = "  peers: ['192.0.2.1:7373']\n"
    assert parts(tmp_path, without("discovery-mdns", "discovery-dht"), seeds).warnings == []


def test_an_operator_runs_no_kubernetes_and_announces_no_elastic_ip(tmp_path):
    made = parts(tmp_path, load_plugins(), more="kubevip:\n  eip: 192.0.2.99\n", kind="operator")
    assert made.engine is None
    assert made.chosen["network"] == ("vpn",)
    assert made.warnings == []


def test_a_vpn_that_kubernetes_does_not_use_is_made_and_marked(tmp_path):
    [(_, is_used)] = parts(tmp_path, load_plugins(), "  vpn:\n    use: false\n").networks
    assert is_used is False


def test_a_name_that_nobody_offers_is_refused(tmp_path):
    with pytest.raises(PluginError, match="no engine is called 'k8s'; installed: k0s, k3s"):
        parts(tmp_path, load_plugins(), "  plugins:\n    engine: k8s\n")


def test_of_two_engines_k3s_is_used_unless_the_other_is_named(tmp_path):
    assert parts(tmp_path, load_plugins(), "").chosen["engine"] == ("k3s",)
    assert parts(tmp_path, load_plugins(), "  plugins:\n    engine: k0s\n").chosen["engine"] == ("k0s",)


def test_a_block_of_an_engine_that_is_enabled_and_not_used_is_a_warning(tmp_path):
    [warning] = parts(tmp_path, load_plugins(), more="k0s:\n  enabled: true\n").warnings
    named = "  plugins:\n    engine: k0s\n"
    assert warning == "k0s.enabled is true, but the engine is k3s. Set p2p.plugins.engine: k0s"
    assert parts(tmp_path, load_plugins(), named, "k0s:\n  enabled: true\n").warnings == []


@pytest.mark.parametrize(("engine", "master", "worker"), [("k3s", "k3s", "k3s-agent"), ("k0s", "k0s", "k0s-worker")])
@pytest.mark.parametrize("how", ["blocks", "both", "role", "automatic", "disabled"])
def test_without_automatic_roles_the_blocks_of_the_engine_in_use_give_the_role(engine, master, worker, how):
    plugins = load_plugins()

    def role_of(blocks: str, p2p: str = "", *, auto: bool = False) -> Role | None:
        head = f"p2p:\n  network_token: {TOKEN}\n  plugins: {{engine: {engine}}}\n{p2p}"
        text = head + ("" if auto else "  auto: {enable: false}\n") + blocks
        config = parse_config([("test", text)], plugins.sections())
        return assembly.forced_role(config, assembly.engine_offer(config, plugins))

    serves, works = f"{master}: {{enabled: true}}\n", f"{worker}: {{enabled: true}}\n"
    if how == "blocks":
        assert (role_of(serves), role_of(works), role_of("")) == (Role.MASTER, Role.WORKER, None)
    if how == "both":
        assert role_of(works + serves) is Role.MASTER, "the order in the file says nothing"
    if how == "role":
        assert role_of(serves, "  role: worker\n") is Role.WORKER
    if how == "automatic":
        assert role_of(serves, auto=True) is None
    if how == "disabled":
        assert role_of(serves.replace("true", "false") + works) is Role.WORKER


def test_a_block_of_an_engine_that_is_not_used_gives_no_role():
    plugins = load_plugins()
    text = (
        f"p2p: {{network_token: {TOKEN}, plugins: {{engine: k0s}}, auto: {{enable: false}}}}\nk3s: {{enabled: true}}\n"
    )
    config = parse_config([("test", text)], plugins.sections())
    assert assembly.forced_role(config, assembly.engine_offer(config, plugins)) is None


def test_the_role_is_known_too_where_the_configuration_was_read_in_another_process():
    plugins = load_plugins()
    text = f"p2p: {{network_token: {TOKEN}, auto: {{enable: false}}}}\nk3s-agent: {{enabled: true}}\n"
    config = pickle.loads(pickle.dumps(parse_config([("test", text)], plugins.sections())))
    assert assembly.forced_role(config, assembly.engine_offer(config, plugins)) is Role.WORKER


def test_a_machine_without_a_p2p_block_is_told_how_to_get_one(tmp_path):
    with pytest.raises(ConfigError, match="kairos create-config"):
        assembly.make_parts(parse_config([("test", "#cloud-config\n")], {}), load_plugins(), tmp_path, "node")
