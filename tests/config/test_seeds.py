"""Every example of the reference's documents parses, real values standing where they show placeholders."""

from ipaddress import IPv4Address

from kairos_core.config import Config, parse_config, render_hostname


def read(text: str) -> Config:
    return parse_config([("seed.yaml", text)])


def test_the_full_example_gives_every_value_it_shows(full_example: str, token: str) -> None:
    config = read(full_example)
    assert config.hostname == "kubevip-{{ trunc 4 .MachineID }}"
    assert config.kubevip.eip == IPv4Address("192.168.1.110")
    assert config.kubevip.enabled
    assert (config.kubevip.interface, config.kubevip.manifest_url) == ("ens18", None)
    assert config.p2p is not None
    assert config.p2p.network_token.get_secret_value() == token
    assert config.p2p.role is None
    assert config.p2p.disable_dht
    assert (config.p2p.vpn.create, config.p2p.vpn.use, config.p2p.vpn.used) == (False, False, False)
    assert config.p2p.vpn.env == {"DHCP": "true", "EDGEVPNMAXCONNS": "200"}
    assert config.p2p.auto.enabled
    assert config.p2p.auto.ha_masters == 2
    assert config.p2p.auto.ha.external_db is not None
    assert config.p2p.auto.ha.external_db.get_secret_value() == "external-db-string"
    assert config.warnings == ()


def test_the_first_example_enables_ha_with_two_more_masters(token: str) -> None:
    config = read(f"""
p2p:
 # Disabling DHT makes co-ordination to discover nodes only in the local network
 disable_dht: true #Enabled by default
 auto:
   ha:
     enable: true
     master_nodes: 2
 network_token: "{token}"


""")
    assert config.p2p is not None
    assert (config.p2p.auto.enabled, config.p2p.auto.is_ha, config.p2p.auto.ha_masters) == (True, True, 2)
    assert config.warnings == ()


def test_the_minimal_example_needs_only_the_token(token: str) -> None:
    config = read(f"""#cloud-config
hostname: "kubevip-{{{{ trunc 4 .MachineID }}}}"

users:
- name: "kairos"
  passwd: "kairos"
  ssh_authorized_keys:
  - github:mudler
p2p:
 network_token: "{token}"
""")
    assert config.p2p is not None
    assert (config.p2p.network_id, config.p2p.nodes_to_start, config.p2p.vpn.used) == ("kairos", 2, True)
    assert config.p2p.auto.ha_masters == 0
    assert config.hostname is not None
    assert render_hostname(config.hostname, "abcdef0123456789", str) == "kubevip-abcd"


def test_the_elastic_ip_example_turns_the_vpn_off(token: str) -> None:
    config = read(f"""
p2p:
 network_token: "{token}"
 vpn:
   # Disable VPN, so traffic is not configured with a VPN
   create: false
   use: false

## Sets the Elastic IP used in KubeVIP
kubevip:
  eip: "192.168.1.110"
  manifest_url: ""
  enable: true
  interface: "ens18"
""")
    assert config.p2p is not None
    assert not config.p2p.vpn.used
    assert config.kubevip.enabled


def test_p2p_ha_of_the_last_example_is_taken_as_p2p_auto_ha_with_a_warning(token: str) -> None:
    config = read(f"""

#cloud-config

install:
  auto: true
  device: "auto"
  reboot: true

hostname: "kubevip-{{{{ trunc 4 .MachineID }}}}"
users:
- name: "kairos"
  passwd: "kairos"
  ssh_authorized_keys:
  - github:mudler

p2p:
 network_token: "{token}"
 ha:
   master_nodes: 2
 vpn:
   # Disable VPN, so traffic is not configured with a VPN
   create: false
   use: false

kubevip:
  eip: "192.168.1.110"
""")
    assert config.p2p is not None
    assert config.p2p.auto.ha_masters == 2
    assert config.warnings == ("seed.yaml, line 19: p2p.ha is an old spelling; write p2p.auto.ha.",)


def test_the_kairos_block_of_2022_means_p2p(token: str) -> None:
    config = read(f"""kairos:
  network_token: "{token}"
  # Optionally, set a network id (for multiple clusters in the same network)
  # network_id: "dev"
  # Optionally set a role
  # role: "master"
""")
    assert config.p2p is not None
    assert config.p2p.network_token.get_secret_value() == token
    assert config.warnings == ("seed.yaml, line 2: kairos.network_token is an old spelling; write p2p.network_token.",)


def test_the_keyword_table_s_p2p_vpn_auto_is_ignored_with_a_warning(token: str) -> None:
    config = read(f"p2p:\n  network_token: {token}\n  vpn:\n    auto: true\n")
    assert config.warnings == ("seed.yaml, line 4: p2p.vpn.auto does nothing; p2p.auto is meant. Remove it.",)
