"""From what the ledger says to what the data plane is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.lan import Connected
from kairos_net_vpn.roster import Policy, View, make_roster, parse_entry
from kairos_net_vpn.subnets import MAX_OFFERED, MAX_ROUTES

from kairos_core import Address, PeerId, PeerLink

ME, BOB, EVE = (PeerId(bytes([number]) * 32) for number in (1, 2, 3))
MY_KEY, BOBS_KEY, EVES_KEY = (bytes([number]) * 32 for number in (11, 12, 13))
POOL = IPv4Network("10.1.0.0/24")


def entry(key: bytes = BOBS_KEY, **more: Any) -> dict[str, Any]:
    return {"key": key, "port": 700, "address": "10.1.0.2", "hosts": ["192.0.2.2"], **more}


def view(entries: Mapping[PeerId, Mapping[str, Any]], **more: Any) -> View:
    plain = View(
        me=ME,
        own_key=MY_KEY,
        own_hosts=frozenset({"192.0.2.1", "172.17.0.1"}),
        pool=POOL,
        entries={ME: entry(MY_KEY), **entries},
        links=(PeerLink(BOB, Address("192.0.2.22", 7373), alive=True),),
        leases={IPv4Address("10.1.0.1"): ME, IPv4Address("10.1.0.2"): BOB},
    )
    return replace(plain, **more)


def test_a_peer_is_tried_where_gossip_reaches_it_first_and_on_the_port_it_published() -> None:
    (bob,) = make_roster(view({BOB: entry()})).peers.values()
    assert bob.key == BOBS_KEY
    assert bob.endpoints == ("192.0.2.22:700", "192.0.2.2:700")
    assert bob.addresses == ("10.1.0.2",)
    assert bob.eager


def test_where_others_see_a_peer_is_tried_last_and_only_if_it_can_be_that_peer() -> None:
    seen = ["203.0.113.5:4001", "203.0.113.6:4001", "203.0.113.7:4001"]
    (bob,) = make_roster(view({BOB: entry(seen=seen)})).peers.values()
    assert bob.endpoints == ("192.0.2.22:700", "192.0.2.2:700", "203.0.113.5:4001", "203.0.113.6:4001")
    for odd in (["10.1.0.2:700", "127.0.0.1:1"], ["192.0.2.1:1", "nobody:x"], "203.0.113.5:1", 5, [5], [None]):
        (bob,) = make_roster(view({BOB: entry(seen=odd)})).peers.values()
        assert bob.endpoints == ("192.0.2.22:700", "192.0.2.2:700")


def test_a_peer_owns_what_it_leases_and_not_what_it_says() -> None:
    (bob,) = make_roster(view({BOB: entry(address="10.1.0.1")})).peers.values()
    assert bob.addresses == ("10.1.0.2",)


def test_a_peer_without_a_port_is_away_but_may_come_to_us() -> None:
    (bob,) = make_roster(view({BOB: {"key": BOBS_KEY}})).peers.values()
    assert bob.endpoints == ()


def test_a_peer_that_does_not_answer_gossip_is_not_knocked_at() -> None:
    links = (PeerLink(BOB, None, alive=False),)
    (bob,) = make_roster(view({BOB: entry()}, links=links)).peers.values()
    assert not bob.eager


def test_endpoints_that_would_lead_into_the_tunnel_or_to_ourselves_are_left_out() -> None:
    hosts = [
        "10.1.0.2",
        "172.17.0.1",
        "127.0.0.1",
        "::1",
        "fe80::1",
        "224.0.0.1",
        "0.0.0.0",
        "a.example",
        "192.0.2.2",
    ]
    links = (PeerLink(BOB, Address("10.1.0.2", 7373), alive=True),)
    (bob,) = make_roster(view({BOB: entry(hosts=hosts[-8:])}, links=links)).peers.values()
    assert bob.endpoints == ("192.0.2.2:700",)


def test_ipv6_endpoints_are_written_with_brackets() -> None:
    (bob,) = make_roster(view({BOB: entry(hosts=["2001:db8::2"])}, links=())).peers.values()
    assert bob.endpoints == ("[2001:db8::2]:700",)


def test_one_entry_makes_us_try_at_most_eight_places() -> None:
    hosts = [f"198.51.100.{n}" for n in range(1, 200)]
    (bob,) = make_roster(view({BOB: entry(hosts=hosts)})).peers.values()
    assert len(bob.endpoints) == 8


def test_who_copies_a_key_takes_nothing_from_its_owner() -> None:
    leases = {IPv4Address("10.1.0.2"): BOB, IPv4Address("10.1.0.3"): EVE}
    copied = {BOB: entry(), EVE: entry(BOBS_KEY, hosts=["203.0.113.3"])}
    (bob,) = make_roster(view(copied, leases=leases)).peers.values()
    assert set(bob.addresses) == {"10.1.0.2", "10.1.0.3"}
    assert {"192.0.2.22:700", "192.0.2.2:700"} < set(bob.endpoints)


def test_who_copies_our_own_key_is_reported() -> None:
    roster = make_roster(view({BOB: entry(), EVE: entry(MY_KEY)}))
    assert roster.peers.keys() == {BOBS_KEY}
    assert roster.unusable == {EVE}


def test_bad_entries_are_reported_and_hurt_nobody_else() -> None:
    bad = [
        {},
        entry(b"short"),
        entry("text"),
        entry(port=0),
        entry(port=True),
        entry(port="7"),
        entry(hosts="x"),
    ]  # type: ignore[arg-type]
    for value in [*bad, entry(hosts=[7]), entry(hosts=None)]:
        roster = make_roster(view({BOB: entry(), EVE: value}))
        assert roster.unusable == {EVE}
        assert roster.peers.keys() == {BOBS_KEY}


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["key", "port", "hosts", "address"]), json))
def test_any_value_is_an_entry_or_reported(value: dict[str, Any]) -> None:
    roster = make_roster(view({EVE: value}))
    assert (parse_entry(value) is None) == (EVE in roster.unusable)


@given(st.lists(st.text(max_size=50), max_size=20))
def test_any_hosts_give_only_ip_endpoints_outside_the_tunnel(hosts: list[str]) -> None:
    (bob,) = make_roster(view({BOB: entry(hosts=hosts)})).peers.values()
    assert not any(endpoint.startswith("10.1.0.") for endpoint in bob.endpoints)


# -- IPv6 and networks behind nodes

ULA = IPv6Network("fd12:3456:789a::/64")
SITE = IPv4Network("192.168.5.0/24")
ALL = Policy(accepted=(IPv4Network("0.0.0.0/0"),))


def test_a_peer_with_ipv6_owns_the_address_of_its_lease() -> None:
    (bob,) = make_roster(view({BOB: entry(ipv6=True)}, ula=ULA)).peers.values()
    assert bob.addresses == ("10.1.0.2", "fd12:3456:789a::a01:2")


def test_a_peer_without_ipv6_or_a_node_without_has_ipv4_alone() -> None:
    for entries, ula in (({BOB: entry()}, ULA), ({BOB: entry(ipv6=True)}, None), ({BOB: entry(ipv6="yes")}, ULA)):
        (bob,) = make_roster(view(entries, ula=ula)).peers.values()
        assert bob.addresses == ("10.1.0.2",)


def test_the_lowest_living_peer_carries_a_network_that_several_offer() -> None:
    entries = {BOB: entry(routes=[str(SITE)]), EVE: entry(EVES_KEY, routes=[str(SITE)])}
    roster = make_roster(view(entries, policy=ALL))
    assert (roster.peers[BOBS_KEY].routes, roster.peers[EVES_KEY].standby) == ((str(SITE),), (str(SITE),))
    dead = (PeerLink(BOB, None, alive=False),)
    roster = make_roster(view(entries, policy=ALL, links=dead))
    assert (roster.peers[EVES_KEY].routes, roster.peers[BOBS_KEY].standby) == ((str(SITE),), (str(SITE),))


def test_routes_are_refused_around_peers_networks_here_and_what_this_node_offers() -> None:
    connected = Connected("eth1", IPv4Network("172.16.0.0/16"))
    entries = {BOB: entry(routes=["192.0.2.0/24", "172.16.5.0/24", str(SITE), "192.168.6.0/24"])}
    policy = replace(ALL, offered=(SITE,))
    roster = make_roster(view(entries, policy=policy, networks=(connected,)))
    assert roster.peers[BOBS_KEY].routes == ("192.168.6.0/24",)
    reasons = " ".join(roster.choice.refused.values())
    for expected in ("is reached", "(eth1)", "which this node offers itself"):
        assert expected in reasons


def test_a_route_stays_when_gossip_finds_its_way_through_it() -> None:
    entries = {BOB: entry(routes=[str(SITE)])}
    links = (PeerLink(BOB, Address("192.168.5.2", 7373), alive=True),)
    roster = make_roster(view(entries, policy=ALL, links=links))
    assert not roster.choice.routes
    roster = make_roster(view(entries, policy=ALL, links=links, routed=frozenset({SITE})))
    assert roster.choice.routes == {BOB: (SITE,)}
    assert roster.peers[BOBS_KEY].endpoints == ("192.0.2.2:700",)  # never into what the tunnel carries


def test_a_peer_is_not_tried_at_addresses_inside_its_own_network() -> None:
    """A node in 192.168.5.0/24 publishes its address there: this is why it can offer that network."""
    (bob,) = make_roster(view({BOB: entry(hosts=["192.168.5.2"], routes=[str(SITE)])}, policy=ALL)).peers.values()
    assert (bob.routes, bob.endpoints) == ((str(SITE),), ("192.0.2.22:700",))


def test_the_router_is_who_holds_the_address_and_offers_to_be_one() -> None:
    policy = Policy(router=IPv4Address("10.1.0.2"))
    roster = make_roster(
        view({BOB: entry(routes=["0.0.0.0/0"]), EVE: entry(EVES_KEY, routes=["0.0.0.0/0"])}, policy=policy)
    )
    assert roster.peers[BOBS_KEY].routes == ("0.0.0.0/0",)
    assert roster.peers[EVES_KEY].routes == ()
    assert not roster.choice.prefixes


def test_what_is_not_a_network_is_left_out_and_what_is_not_a_list_spoils_the_entry() -> None:
    value = entry(routes=["192.168.5.1/24", "nonsense", str(SITE), "10.0.0.0/33", *["192.168.7.0/24"] * 100])
    parsed = parse_entry(value)
    assert parsed is not None
    assert len(parsed.routes) == MAX_ROUTES
    roster = make_roster(view({BOB: value}, policy=ALL))
    assert roster.choice.prefixes == {SITE, IPv4Network("192.168.7.0/24")}
    assert parse_entry(entry(routes="192.168.5.0/24")) is None
    assert parse_entry(entry(routes=[1])) is None


def test_many_that_offer_much_share_what_is_looked_at_and_starve_nobody() -> None:
    crowd = [PeerId(number.to_bytes(32)) for number in range(100, 300)]
    entries = {
        peer: entry(peer.public_key, routes=[f"10.{place}.{number}.0/24" for number in range(MAX_ROUTES)])
        for place, peer in enumerate(crowd)
    }
    choice = make_roster(view(entries, policy=replace(ALL, accepted=(IPv4Network("10.199.0.0/16"),)))).choice
    assert len(choice.refused) + len(choice.prefixes) <= MAX_OFFERED
    assert {peer: len(routes) for peer, routes in choice.routes.items()} == {crowd[199]: MAX_OFFERED // 200}
