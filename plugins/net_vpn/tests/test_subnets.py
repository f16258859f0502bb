"""Networks behind nodes: what is accepted, and who carries it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn.prefixes import Prefix
from kairos_net_vpn.subnets import EVERYTHING, MAX_ACCEPTED, MAX_ROUTES, Offer, Rules, choose

from kairos_core import PeerId

LOW, MIDDLE, HIGH = (PeerId(bytes([number]) * 32) for number in (1, 2, 3))
ALL = Rules(accepted=EVERYTHING)
SITE = ip_network("192.168.5.0/24")


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(ip_network, texts))


def offer(peer: PeerId, *texts: str, is_alive: bool = True, is_router: bool = False) -> Offer:
    return Offer(peer, prefixes(*texts), is_alive, is_router)


def test_the_lowest_of_the_living_carries_and_the_others_stand_by() -> None:
    offers = [offer(peer, str(SITE), is_alive=peer != LOW) for peer in (HIGH, LOW, MIDDLE)]
    choice = choose(offers, ALL)
    assert choice.routes == {MIDDLE: (SITE,)}
    assert choice.standby == {LOW: (SITE,), HIGH: (SITE,)}
    assert choice.prefixes == {SITE}


def test_where_nobody_lives_the_route_stays_so_that_packets_do_not_leave_by_another_door() -> None:
    choice = choose([offer(peer, str(SITE), is_alive=False) for peer in (HIGH, LOW)], ALL)
    assert choice.routes == {LOW: (SITE,)}


def test_a_policy_accepts_what_lies_within_it_and_nothing_else() -> None:
    rules = Rules(accepted=prefixes("192.168.0.0/16", "fd11::/32"))
    choice = choose([offer(LOW, "192.168.5.0/24", "192.0.0.0/8", "172.16.0.0/12", "fd11:0:5::/48", "fd12::/48")], rules)
    assert choice.routes == {LOW: prefixes("192.168.5.0/24", "fd11:0:5::/48")}
    assert set(choice.refused.values()) == {"p2p.vpn.accept_routes does not allow it"}
    assert not choose([offer(LOW, str(SITE))], Rules(accepted=())).routes


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ("0.0.0.0/1", "a default route in disguise"),
        ("8000::/1", "a default route in disguise"),
        ("127.0.0.0/8", "never routed"),
        ("169.254.1.0/24", "never routed"),
        ("224.0.0.0/8", "never routed"),
        ("255.255.255.255/32", "never routed"),
        ("fe80::/64", "never routed"),
        ("ff02::/16", "never routed"),
        ("::1/128", "never routed"),
        ("10.1.0.128/25", "the VPN's own addresses"),
        ("10.0.0.0/8", "the VPN's own addresses"),
        ("192.0.2.0/24", "is reached: the tunnel would run through itself"),
    ],
)
def test_no_policy_accepts_what_would_take_over_other_traffic(route: str, says: str) -> None:
    pool = (ip_network("10.1.0.0/24"), "the VPN's own addresses")
    rules = replace(ALL, barred=(pool,), underlay={ip_address("192.0.2.7"): HIGH})
    choice = choose([offer(LOW, route)], rules)
    assert not choice.routes
    assert says in choice.refused[LOW, ip_network(route)]


def test_a_default_route_is_taken_from_the_router_alone_and_stays_out_of_the_kernel() -> None:
    offers = [offer(LOW, "0.0.0.0/0", str(SITE)), offer(MIDDLE, "0.0.0.0/0", "::/0", is_router=True)]
    choice = choose(offers, ALL)
    assert choice.routes == {LOW: (SITE,), MIDDLE: prefixes("0.0.0.0/0", "::/0")}
    assert choice.prefixes == {SITE}
    assert not choice.refused  # an offer that is not meant for us is no news


def test_a_router_that_does_not_offer_to_be_one_is_named() -> None:
    choice = choose([offer(LOW, is_router=True)], ALL)
    assert not choice.routes
    assert choice.refused == {(LOW, EVERYTHING[0]): "env.ROUTER names it, but it does not offer 0.0.0.0/0"}


def test_neither_one_node_nor_all_can_fill_the_routing_table() -> None:
    many = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(MAX_ROUTES + 10)]
    assert len(choose([offer(LOW, *many)], ALL).routes[LOW]) == MAX_ROUTES
    crowd = [
        offer(PeerId(bytes([n]) * 32), *(f"10.{n}.{m}.0/24" for m in range(MAX_ROUTES)))
        for n in range(MAX_ACCEPTED // MAX_ROUTES + 2)
    ]
    choice = choose(crowd, ALL)
    assert len(choice.prefixes) == MAX_ACCEPTED
    assert set(choice.refused.values()) == {f"{MAX_ACCEPTED} routes are accepted already"}


_route = st.sampled_from(prefixes("192.168.5.0/24", "192.168.0.0/16", "172.16.0.0/12", "fd11::/48", "0.0.0.0/0"))
_offer = st.builds(
    Offer,
    peer=st.sampled_from((LOW, MIDDLE, HIGH)),
    routes=st.lists(_route, max_size=4).map(tuple),
    is_alive=st.booleans(),
    is_router=st.booleans(),
)


@given(st.lists(_offer, max_size=3, unique_by=lambda offer: offer.peer), st.randoms())
def test_each_prefix_has_one_carrier_whatever_order_the_offers_come_in(offers: list[Offer], random: object) -> None:
    choice = choose(offers, ALL)
    carried = [prefix for routes in choice.routes.values() for prefix in routes]
    assert len(carried) == len(set(carried))
    random.shuffle(offers)  # type: ignore[attr-defined]
    assert choose(offers, ALL) == choice
