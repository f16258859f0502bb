"""Socket addresses as text."""

import socket
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.endpoints import Endpoints
from kairos_net_vpn.prefixes import Inside

BOTH, ONLY_4 = Endpoints(socket.AF_INET6), Endpoints(socket.AF_INET)


@pytest.mark.parametrize("text", ["192.0.2.1:7373", "[2001:db8::1]:7373"])
def test_an_endpoint_survives_the_way_there_and_back(text: str) -> None:
    endpoint = BOTH.parse(text)
    assert endpoint is not None
    assert BOTH.format(endpoint) == text


def test_a_zone_becomes_the_index_of_its_interface() -> None:
    assert BOTH.parse("[fe80::1%lo]:7") == ("fe80::1", 7, 0, socket.if_nametoindex("lo"))


@pytest.mark.parametrize("text", ["", "192.0.2.1", "host:7", "192.0.2.1:0", "192.0.2.1:65536", "[fe80::1%none]:7"])
def test_what_cannot_be_reached_is_left_out(text: str) -> None:
    assert BOTH.parse(text) is None


def test_a_kernel_without_ipv6_reaches_ipv4_only() -> None:
    assert ONLY_4.parse_all(("[2001:db8::1]:7", "192.0.2.1:7")) == (("192.0.2.1", 7),)


def test_no_peer_has_more_than_eight_endpoints() -> None:
    assert len(BOTH.parse_all(tuple(f"192.0.2.{n}:7" for n in range(1, 100)))) == 8


@given(st.text(max_size=60))
def test_any_text_is_an_endpoint_or_none(text: str) -> None:
    endpoint = BOTH.parse(text)
    assert endpoint is None or BOTH.parse(BOTH.format(endpoint)) is not None


def test_an_address_is_known_in_all_forms() -> None:
    assert BOTH.address_of(("::ffff:10.1.0.7", 7, 0, 0)) == ONLY_4.address_of(("10.1.0.7", 7)) == bytes([10, 1, 0, 7])
    assert BOTH.address_of(("fe80::1%eth0", 7, 0, 2)) == bytes.fromhex("fe80" + "00" * 13 + "01")


def test_the_inside_of_the_tunnel_is_known_in_all_forms() -> None:
    inside = Inside(frozenset(), (IPv4Network("10.1.0.0/24"), IPv6Network("fd00::/64")))
    held = [("fd00::7", 7, 0, 0), ("::ffff:10.1.0.7", 7, 0, 0), ("10.1.0.7", 7)]
    assert all(inside.holds(BOTH.address_of(endpoint)) for endpoint in held)
    others = [("::ffff:10.1.1.7", 7, 0, 0), ("2001:db8::1", 7, 0, 0), ("fe80::1%eth0", 7, 0, 2)]
    assert not any(inside.holds(BOTH.address_of(endpoint)) for endpoint in others)
