"""From files to a Config: merging, words, legacy spellings, sections of plugins, advice."""

from dataclasses import FrozenInstanceError
from ipaddress import IPv4Network, IPv6Address
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from kairos_core.config import P2P, Config, parse_config
from kairos_core.errors import ConfigError
from kairos_core.model import Address, Role


def p2p(token: str, *lines: str) -> P2P:
    config = parse_config([("a.yaml", "\n  ".join(["p2p:", f"network_token: {token}", *lines]))])
    assert config.p2p is not None
    return config.p2p


def read(*texts: str) -> Config:
    return parse_config([(f"{name}.yaml", text) for name, text in zip("abcdef", texts, strict=False)])


def test_nothing_at_all_is_a_configuration_that_joins_no_network() -> None:
    config = parse_config([])
    assert config.p2p is None
    assert not config.kubevip.enabled
    assert config.warnings == ("there is no p2p block: this machine joins no network. Set p2p.network_token.",)


@pytest.mark.parametrize("text", ["", "#cloud-config\n", "---\n", "~\n", "# only a comment", "p2p:\n"])
def test_an_empty_file_says_nothing(text: str) -> None:
    assert read(text).p2p is None


def test_mappings_of_several_files_merge_and_later_lists_and_values_win(token: str) -> None:
    config = read(
        f"p2p: {{network_token: {token}, role: worker, peers: ['a:1', 'b:2'], vpn: {{use: false}}}}",
        "p2p: {role: master, peers: ['c:3'], vpn: {create: false}}\nk3s: {args: [--one]}",
        "p2p: {role: , vpn: }\nk3s: {args: [--two]}",
    )
    assert config.p2p is not None
    assert config.p2p.role is Role.MASTER
    assert config.p2p.peers == (Address("c", 3),)
    assert (config.p2p.vpn.create, config.p2p.vpn.use) == (False, False)
    assert config.k3s.args == ("--two",)


def test_a_later_file_may_supply_the_token_that_an_earlier_one_lacks(token: str) -> None:
    assert read("p2p: {role: worker}", f"p2p: {{network_token: {token}}}").p2p is not None


def test_anchors_and_merge_keys_work(token: str) -> None:
    config = read(f"""
p2p: {{network_token: {token}}}
k3s: &server
  env: {{A: "1"}}
  args: [--debug]
k3s-agent:
  <<: *server
  args: [--other]
""")
    assert config.k3s_agent.env == {"A": "1"}
    assert config.k3s_agent.args == ("--other",)


def test_text_is_taken_as_it_is_written_and_keys_are_always_text(token: str) -> None:
    config = read(f"""
p2p:
  network_token: {token}
  network_id: 007
  vpn: {{interface: on, env: {{on: yes, TIME: 12:30:45, N: 0x10, F: 1.20, EMPTY: , DATE: 2024-01-02}}}}
k3s: {{args: [--v, 2, no]}}
""")
    assert config.p2p is not None
    assert config.p2p.network_id == "007"
    assert config.p2p.vpn.interface == "on"
    assert config.p2p.vpn.env == {
        "on": "yes",
        "TIME": "12:30:45",
        "N": "0x10",
        "F": "1.20",
        "EMPTY": "",
        "DATE": "2024-01-02",
    }
    assert config.k3s.args == ("--v", "2", "no")


def test_yes_without_quotes_is_true_where_a_boolean_belongs(token: str) -> None:
    settings = p2p(token, "dns: yes", "disable_dht: on", "vpn: {create: off}")
    assert (settings.dns, settings.disable_dht, settings.vpn.create) == (True, True, False)


def test_whole_numbers_may_be_written_as_yaml_allows(token: str) -> None:
    assert p2p(token, "minimum_nodes: 0x10").minimum_nodes == 16
    assert p2p(token, "minimum_nodes: 1_6").minimum_nodes == 16
    assert p2p(token, "minimum_nodes: 020").minimum_nodes == 16


@pytest.mark.parametrize("role", list(Role))
def test_every_role_can_be_forced(token: str, role: Role) -> None:
    assert p2p(token, f"role: {role.value}").role is role


def test_our_own_keys_are_read(token: str) -> None:
    settings = p2p(
        token,
        "peers: ['192.168.1.10:7373', '[fe80::1%eth0]:7373', 'edge.example:1']",
        "minimum_nodes: 1",
        "loglevel: WARN",
        "vpn: {subnet: 10.9.0.0/16, interface: ''}",
        "plugins: {discovery: [mdns], transport: tls, networks: [kubevip, vpn], disabled: [dht]}",
    )
    assert settings.peers[1] == Address("fe80::1%eth0", 7373)
    assert (settings.nodes_to_start, settings.loglevel) == (1, "warning")
    assert (settings.vpn.subnet, settings.vpn.interface) == (IPv4Network("10.9.0.0/16"), "kairos0")
    assert settings.plugins.networks == ("kubevip", "vpn")
    assert settings.plugins.store is None


def test_an_elastic_ip_may_be_ipv6_and_empty_means_none() -> None:
    assert read("kubevip: {eip: 'fd00::0110'}").kubevip.eip == IPv6Address("fd00::110")
    assert read("kubevip: {eip: ''}").kubevip.eip is None
    assert not read("kubevip: {eip: 10.0.0.1, enable: false}").kubevip.enabled


def test_kubevip_config_takes_any_fields_with_their_types() -> None:
    config = read("kubevip: {config: {enableBGP: true, bgpPeers: [{as: 65000, password: x}]}}").kubevip.config
    assert config == {"enableBGP": True, "bgpPeers": [{"as": 65000, "password": "x"}]}


@pytest.mark.parametrize(
    ("lines", "is_ha", "masters"),
    [
        ((), False, 0),
        (("auto: {ha: {master_nodes: 2}}",), True, 2),
        (("auto: {ha: {enable: true, master_nodes: 4}}",), True, 4),
        (("auto: {ha: {enable: true}}",), True, 0),
        (("auto: {ha: {enable: false, master_nodes: 2}}",), False, 0),
        (("auto: {enable: false, ha: {enable: true, master_nodes: 2}}",), False, 0),
    ],
)
def test_ha_is_on_if_enabled_or_if_only_master_nodes_is_set(
    token: str, lines: tuple[str, ...], is_ha: bool, masters: int
) -> None:
    auto = p2p(token, *lines).auto
    assert (auto.is_ha, auto.ha_masters) == (is_ha, masters)


def test_the_old_block_with_all_its_keys_is_rewritten(token: str) -> None:
    config = read(f"""
kairos:
  network_token: {token}
  network_id: dev
  role: worker
  dns: true
  loglevel: debug
  minimum_nodes: 3
  disable_dht: true
  skip_auto: true
  hybrid: true
  ha: {{enable: true, master_nodes: 2}}
vpn:
  DHCP: "false"
  ADDRESS: "10.2.0.30/24"
""")
    settings = config.p2p
    assert settings is not None
    assert (settings.network_id, settings.role, settings.dns) == ("dev", Role.WORKER, True)
    assert (settings.loglevel, settings.minimum_nodes, settings.disable_dht) == ("debug", 3, True)
    assert not settings.auto.enabled
    assert not settings.vpn.create
    assert settings.auto.ha.master_nodes == 2
    assert settings.vpn.env == {"DHCP": "false", "ADDRESS": "10.2.0.30/24"}
    old = [warning.partition(": ")[2] for warning in config.warnings]
    assert "kairos.skip_auto is an old spelling; write p2p.auto.enable: false." in old
    assert "vpn is an old spelling; write p2p.vpn.env." in old
    assert "kairos.hybrid is an old spelling; write p2p.vpn.create: false and p2p.vpn.use: false." in old


def test_hybrid_with_hybrid_vpn_keeps_the_vpn(token: str) -> None:
    config = read(f"kairos: {{network_token: {token}, hybrid: true, hybrid_vpn: true}}")
    assert config.p2p is not None
    assert config.p2p.vpn.used


def test_both_spellings_with_the_same_value_are_fine(token: str) -> None:
    config = read(f"kairos: {{network_token: {token}, role: worker}}", f"p2p: {{network_token: {token}, role: ''}}")
    assert config.p2p is not None
    assert config.p2p.role is Role.WORKER


def test_a_vpn_block_without_the_old_kairos_block_is_another_tool_s(token: str) -> None:
    config = read(f"p2p: {{network_token: {token}}}\nvpn: {{X: y}}")
    assert config.p2p is not None
    assert config.p2p.vpn.env == {}
    assert config.warnings == ()


def test_a_k0s_block_that_is_not_enabled_is_left_alone(token: str) -> None:
    assert read(f"p2p: {{network_token: {token}}}\nk0s: {{enabled: false, args: [a]}}").warnings == ()


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("p2pp: {role: worker}", "the block p2pp is not read by Kairos; if p2p is meant, write it so."),
        ("kube-vip: {}", "the block kube-vip is not read by Kairos; if kubevip is meant, write it so."),
        ("k3s_agent: {}", "the block k3s_agent is not read by Kairos; if k3s-agent is meant, write it so."),
        ("Hostname: x", "the block Hostname is not read by Kairos; if hostname is meant, write it so."),
    ],
)
def test_a_misspelt_block_gives_a_warning_with_the_right_name(text: str, advice: str) -> None:
    assert f"a.yaml, line 1: {advice}" in read(text).warnings


def test_blocks_of_other_tools_give_no_warning(token: str) -> None:
    others = "install: {}\nusers: []\nstages: {}\nwrite_files: []\nboot: []\nname: x\ndebug: true\nk0s: {}\n"
    assert read(f"{others}p2p: {{network_token: {token}}}").warnings == ()


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("auto: {enable: false, ha: {master_nodes: 2}}", "p2p.auto.ha has no effect"),
        ("auto: {ha: {enable: false, master_nodes: 2}}", "p2p.auto.ha.master_nodes has no effect"),
        ("auto: {ha: {enable: true}}", "there will be one master"),
        ("auto: {ha: {master_nodes: 1}}", "makes 2 masters; etcd survives no more losses than with 1"),
        ("vpn: {create: false, use: true}", "p2p.vpn.use: true has no effect"),
    ],
)
def test_settings_without_effect_are_pointed_out(token: str, line: str, advice: str) -> None:
    (warning,) = read(f"p2p: {{network_token: {token}}}", f"p2p: {{{line}}}").warnings
    assert advice in warning


def test_an_even_number_of_masters_is_fine_with_an_external_database(token: str) -> None:
    ha = "{master_nodes: 1, external_db: 'postgres://u:p@db/k3s'}"
    assert read(f"p2p: {{network_token: {token}, auto: {{ha: {ha}}}}}").warnings == ()


def test_kubevip_enabled_without_an_elastic_ip_is_pointed_out(token: str) -> None:
    (warning,) = read(f"p2p: {{network_token: {token}}}\nkubevip: {{enable: true}}").warnings
    assert "kube-vip stays off" in warning


def test_the_configuration_is_frozen(token: str) -> None:
    with pytest.raises(FrozenInstanceError):
        p2p(token).role = Role.WORKER


# --- sections of plugins


class VpnSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    create: bool = True
    subnet: IPv4Network = IPv4Network("10.1.0.0/24")
    mtu: int = Field(default=1420, ge=1280, le=1420)
    env: dict[str, str] = {}


class FileSettings(BaseModel):
    path: Path
    key: SecretStr | None = None
    every: float = 1.0

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError(f"'{path}' is not an absolute path")
        return path


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


SECTIONS: dict[str, type[BaseModel]] = {"p2p.vpn": VpnSettings, "p2p.file_discovery": FileSettings}


def sections(token: str, *lines: str) -> Config:
    text = "\n  ".join(["p2p:", f"network_token: {token}", *lines])
    return parse_config([("a.yaml", text)], SECTIONS)


def test_a_section_is_read_by_the_core_and_by_the_plugin(token: str) -> None:
    config = sections(token, "vpn: {create: false, use: false, subnet: 10.2.0.0/24, mtu: 1300, env: {DHCP: false}}")
    assert config.p2p is not None
    assert (config.p2p.vpn.create, config.p2p.vpn.use) == (False, False)
    settings = config.settings["p2p.vpn"]
    assert isinstance(settings, VpnSettings)
    assert (settings.create, settings.mtu, settings.subnet) == (False, 1300, IPv4Network("10.2.0.0/24"))
    assert settings.env == {"DHCP": "false"}


def test_an_absent_section_has_the_defaults_of_its_model_or_is_left_out(token: str) -> None:
    config = sections(token)
    assert config.settings == {"p2p.vpn": VpnSettings()}


def test_a_section_of_a_plugin_alone_needs_the_plugin(token: str) -> None:
    config = sections(token, "file_discovery: {path: /run/peers, every: 2}")
    settings = config.settings["p2p.file_discovery"]
    assert isinstance(settings, FileSettings)
    assert (settings.path, settings.every) == (Path("/run/peers"), 2.0)
    with pytest.raises(ConfigError, match=r"p2p\.file_discovery is an unknown key"):
        p2p(token, "file_discovery: {path: /run/peers}")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("vpn: {mtu: 9000}", "p2p.vpn.mtu: '9000' is a number, expected 1420 or less."),
        ("vpn: {mtuu: 1400}", "p2p.vpn.mtuu is an unknown key; did you mean mtu?"),
        ("vpn: {usse: true}", "p2p.vpn.usse is an unknown key; did you mean use?"),
        ("vpn: {create: 'no'}", "p2p.vpn.create: 'no' is text, expected true or false, without quotes."),
        ("file_discovery: {}", "p2p.file_discovery.path is missing."),
        ("file_discovery: x", "p2p.file_discovery: 'x' is text, expected keys and values below it."),
        ("file_discovery: {path: x}", "p2p.file_discovery.path: 'x' is not an absolute path."),
        ("file_discovery: {path: /x, pth: 1}", "p2p.file_discovery.pth is an unknown key; did you mean path?"),
        ("file_discovery: {path: /x, every: a}", "p2p.file_discovery.every: 'a' is text, expected a number."),
        ("file_discovery: {path: /x, key: [s3cret]}", "p2p.file_discovery.key: there is a list, expected text."),
        ("file_discoverie: {path: /x}", "p2p.file_discoverie is an unknown key; did you mean file_discovery?"),
    ],
)  # fmt: skip
def test_faults_in_a_section_are_named_once(token: str, line: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sections(token, line)
    assert str(caught.value) == f"a.yaml, line 3: {sentence}"


def test_a_model_that_allows_more_keys_gets_them_all(token: str) -> None:
    config = parse_config([("a.yaml", "kubevip: {eip: 10.0.0.1, leader: {a: 1}}")], {"kubevip": Open})
    assert config.settings["kubevip"].model_extra == {"eip": "10.0.0.1", "leader": {"a": 1}}
    assert config.kubevip.enabled


def test_a_top_level_section_and_one_below_another_s_are_possible(token: str) -> None:
    nested: dict[str, type[BaseModel]] = {
        "lab.inner": FileSettings,
        "p2p.vpn": VpnSettings,
        "p2p.vpn.files": FileSettings,
    }
    text = f"lab: {{inner: {{path: /a}}}}\np2p: {{network_token: {token}, vpn: {{files: {{path: /b}}}}}}"
    settings = parse_config([("a.yaml", text)], nested).settings
    assert [settings["lab.inner"], settings["p2p.vpn.files"]] == [
        FileSettings(path=Path("/a")),
        FileSettings(path=Path("/b")),
    ]


class Grumpy(BaseModel):
    name: str = ""

    @field_validator("name")
    @classmethod
    def _check(cls, name: str) -> str:
        if name:
            raise ConfigError("no name is good enough")
        return name


def test_a_plugin_may_raise_a_config_error_of_its_own(token: str) -> None:
    with pytest.raises(ConfigError, match=r"^a.yaml, line 1: lab: no name is good enough$"):
        parse_config([("a.yaml", "lab: {name: x}")], {"lab": Grumpy})
