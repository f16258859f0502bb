"""The section `p2p.vpn`."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from kairos_net_vpn.settings import VpnSettings, inner_mtu
from kairos_net_vpn.subnets import EVERYTHING
from pydantic import TypeAdapter, ValidationError


def test_nothing_set_leases_any_address_of_the_default_pool() -> None:
    settings = VpnSettings()
    assert (settings.wanted, settings.leases, settings.pool) == (None, True, IPv4Network("10.1.0.0/24"))
    assert (settings.create, settings.use, settings.interface) == (True, True, "kairos0")


def test_a_static_address_brings_its_own_network() -> None:
    settings = VpnSettings(env={"ADDRESS": "10.9.8.7/16", "DHCP": "false"})
    assert settings.wanted == IPv4Address("10.9.8.7")
    assert settings.pool == IPv4Network("10.9.0.0/16")
    assert not settings.leases


def test_yaml_scalars_in_the_environment_become_text() -> None:
    settings = VpnSettings.checked({"env": {"DHCP": True, "EDGEVPNMAXCONNS": 200, "ADDRESS": "10.1.0.5"}})
    assert settings.env == {"DHCP": "true", "EDGEVPNMAXCONNS": "200", "ADDRESS": "10.1.0.5"}
    assert settings.pool == IPv4Network("10.1.0.0/24")


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"env": {"DHCP": False}}, "env.ADDRESS is not set"),
        ({"env": {"ADDRESS": "10.1.0.300/24"}}, "10.1.0.300/24"),
        ({"env": {"ADDRESS": "10.1.0.0/24"}}, "first or last"),
        ({"env": {"ADDRESS": "10.1.0.255/24"}}, "first or last"),
        ({"subnet": "10.2.0.0/24", "env": {"ADDRESS": "10.1.0.5/24"}}, "not in subnet"),
        ({"subnet": "10.1.0.0/31"}, "/8 to /30"),
        ({"subnet": "10.1.0.1/24"}, "host bits"),
        ({"interface": "sixteen-letters!"}, "interface"),
        ({"interface": "a/b"}, "interface"),
        ({"mtu": 1500}, "1420"),
        ({"mtu": 100}, "1280"),
        ({"port": 70000}, "65535"),
        ({"unknown": 1}, "unknown"),
        ({"routes": "192.168.5.0/24"}, "a list of networks"),
        ({"routes": ["192.168.5.1/24"]}, "host bits"),
        ({"routes": ["nonsense"]}, "192.168.5.0/24"),
        ({"routes": ["10.1.0.0/16"]}, "the VPN's own addresses"),
        ({"routes": ["169.254.0.0/17"]}, "never routed"),
        ({"routes": ["128.0.0.0/1"]}, "to route everything, write /0"),
        ({"routes": [f"10.2.{n}.0/24" for n in range(65)]}, "65 routes are too many"),
        ({"accept_routes": "some"}, "none, all, or a list"),
        ({"accept_routes": [["10.0.0.0/8"]]}, "write the network itself"),
        ({"env": {"ROUTER": "bob"}}, "env.ROUTER 'bob' is not an address"),
        ({"env": {"ROUTER": "192.0.2.1"}}, "is not in 10.1.0.0/24"),
    ],
)
def test_wrong_settings_are_named(section: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        VpnSettings.checked(section)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("underlay", "setting", "expected"),
    [(1500, None, 1420), (1450, None, 1370), (9000, None, 1420), (1280, None, 1280), (1450, 1400, 1400)],
)
def test_the_tunnel_is_as_wide_as_the_lan_allows(underlay: int, setting: int | None, expected: int) -> None:
    assert inner_mtu(underlay, setting) == expected


def test_routes_are_offered_and_accepted_by_nobody_unless_set() -> None:
    settings = VpnSettings()
    assert (settings.routes, settings.accept_routes, settings.forward, settings.router) == ((), (), False, None)
    assert settings.ipv6


def test_routes_and_policies_are_networks_of_both_families() -> None:
    settings = VpnSettings.checked({"routes": ["192.168.5.0/24", "2001:db8::/48", "0.0.0.0/0"]})
    assert [str(route) for route in settings.routes] == ["192.168.5.0/24", "2001:db8::/48", "0.0.0.0/0"]
    for written, expected in (("none", []), ("all", ["0.0.0.0/0", "::/0"]), (["10.0.0.0/8"], ["10.0.0.0/8"]), ([], [])):
        accepted = VpnSettings.checked({"accept_routes": written}).accept_routes
        assert [str(prefix) for prefix in accepted] == expected


def test_networks_are_read_from_a_file_too() -> None:
    text = '{"subnet": "10.2.0.0/24", "routes": ["192.168.5.0/24", "2001:db8::/48"], "accept_routes": "all"}'
    settings = TypeAdapter(VpnSettings).validate_json(text, strict=True)  # as a configuration is read
    assert settings.pool == IPv4Network("10.2.0.0/24")
    assert [str(route) for route in settings.routes] == ["192.168.5.0/24", "2001:db8::/48"]
    assert settings.accept_routes == EVERYTHING


def test_a_router_is_written_as_the_reference_does_with_or_without_a_length() -> None:
    for text in ("10.1.0.1", "10.1.0.1/24"):
        assert VpnSettings.checked({"env": {"ROUTER": text}}).router == IPv4Address("10.1.0.1")


def test_the_schema_shows_editors_what_routes_are() -> None:
    keys = TypeAdapter(VpnSettings).json_schema()["properties"]
    assert keys["routes"]["items"] == {"type": "string"}
    assert {"enum": ["none", "all"]} in keys["accept_routes"]["anyOf"]
