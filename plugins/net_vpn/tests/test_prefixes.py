"""Longest-prefix match against a linear search, and what lies inside the tunnel."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.prefixes import Inside, Prefix, Prefixes


def longest(entries: dict[Prefix, int], address: IPv4Address | IPv6Address) -> int | None:
    holding = [prefix for prefix in entries if address in prefix]
    return entries[max(holding, key=lambda prefix: prefix.prefixlen)] if holding else None


# Few different bits, so that prefixes nest and addresses hit them.
_number = st.integers(0, 15).flatmap(lambda low: st.sampled_from([0, 1, 5, 10]).map(lambda high: high << 28 | low))
_ipv4 = st.builds(lambda number, length: IPv4Network((number, length), strict=False), _number, st.integers(0, 32))
_ipv6 = st.builds(lambda n, length: IPv6Network((n << 96 | n, length), strict=False), _number, st.integers(0, 128))
_tables = st.lists(_ipv4 | _ipv6, max_size=20, unique=True).map(
    lambda prefixes: {prefix: n for n, prefix in enumerate(prefixes)}
)


@given(_tables, _number)
def test_the_longest_prefix_wins_as_in_a_linear_search(table: dict[Prefix, int], number: int) -> None:
    prefixes = Prefixes(table)
    for address in (IPv4Address(number), IPv6Address(number << 96 | number)):
        assert prefixes.find(address.packed) == longest(table, address)


@given(_tables, st.binary(max_size=20))
def test_any_bytes_find_an_answer(table: dict[Prefix, int], address: bytes) -> None:
    found = Prefixes(table).find(address)
    assert found is None or len(address) in (4, 16)


def packed(text: str) -> bytes:
    return ip_address(text).packed


def test_sources_behind_a_peer_are_allowed_but_never_those_of_nodes() -> None:
    inside = Inside(frozenset({packed("10.1.0.1")}), (ip_network("10.1.0.0/24"), ip_network("fd00::/64")))
    sources = inside.sources((ip_network("0.0.0.0/0"), ip_network("::/0")))
    assert sources.find(packed("192.168.5.1"))
    assert sources.find(packed("2001:db8::1"))
    for barred in ("10.1.0.7", "fd00::7", "127.0.0.1", "224.0.0.1", "169.254.1.1", "::1", "fe80::1", "ff02::1"):
        assert not sources.find(packed(barred))


def test_ours_are_our_addresses_and_the_networks_that_we_forward_to() -> None:
    inside = Inside(frozenset({packed("10.1.0.1")}), (ip_network("10.1.0.0/24"),), (ip_network("0.0.0.0/0"),))
    assert inside.is_ours(packed("10.1.0.1"))
    assert inside.is_ours(packed("192.168.5.1"))
    assert not inside.is_ours(packed("10.1.0.2"))
    assert not inside.is_ours(packed("127.0.0.1"))
    assert not inside.is_ours(packed("2001:db8::1"))
