"""The section `p2p.vpn`."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from kairos_net_vpn.settings import VpnSettings, inner_mtu
from pydantic import ValidationError


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
