"""Which stock WireGuard peers are admitted, and what the data plane is told of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_net_vpn import guests
from kairos_net_vpn.guests import Guest, admit, furnish, guest_psk, introduce, parse_guest, parse_guests
from kairos_net_vpn.roster import View, make_roster

from kairos_core import PeerId

MEMBER, OTHER = PeerId(bytes([1]) * 32), PeerId(bytes([2]) * 32)
KEY, NODE_KEY = bytes([9]) * 32, bytes([8]) * 32
ADDRESS = IPv4Address("10.1.0.9")
PHONE = Guest(KEY, ADDRESS, "192.0.2.9:51820", keepalive=25)
SECRET = bytes(range(32))
ANYTHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


def entry(**named: Guest) -> dict[str, Any]:
    return {"peers": {name: guest.document for name, guest in named.items()}}


def view(leases: dict[IPv4Address, PeerId]) -> View:
    return View(
        me=OTHER,
        own_key=bytes([7]) * 32,
        own_hosts=frozenset(),
        pool=IPv4Network("10.1.0.0/24"),
        entries={MEMBER: {"key": NODE_KEY, "port": 7, "hosts": ["192.0.2.1"]}},
        links=(),
        leases=leases,
    )


def test_an_entry_says_what_the_guest_is() -> None:
    router = Guest(KEY, ADDRESS, "[2001:db8::1]:51820", ("192.168.7.0/24", "fd00::/64"), 25)
    assert parse_guests(entry(phone=PHONE, router=router)) == {"phone": PHONE, "router": router}


@pytest.mark.parametrize(
    "change",
    [
        {"key": bytes(31)}, {"key": "text"}, {"address": "10.1.0"}, {"address": 7}, {"endpoint": "host:51820"},
        {"endpoint": "192.0.2.9"}, {"endpoint": "192.0.2.9:0"}, {"endpoint": "192.0.2.9:1\n"}, {"routes": ["all"]},
        {"routes": "10.0.0.0/8"}, {"routes": ["10.0.0.0/8"] * 9}, {"keepalive": -1}, {"keepalive": True},
    ],
)  # fmt: skip
def test_what_is_no_guest_is_a_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        parse_guest({**PHONE.document, **change})


@given(ANYTHING)
def test_hostile_entries_are_a_value_error_or_guests(value: Any) -> None:
    entries = {MEMBER: value if isinstance(value, dict) else {"peers": value}}
    admitted, unusable = admit(entries, {ADDRESS: MEMBER}, [])
    assert not admitted or not unusable


@given(ANYTHING)
def test_hostile_guests_are_refused(value: Any) -> None:
    admitted, unusable = admit({MEMBER: {"peers": {"phone": value}}}, {ADDRESS: MEMBER}, [])
    assert not admitted
    assert unusable == {MEMBER}


def test_too_many_guests_or_bad_names_are_no_entry() -> None:
    many = {f"p{number}": PHONE for number in range(guests.MAX_GUESTS + 1)}
    for bad in (entry(**many), {"peers": {"a\nb": PHONE.document}}, {"peers": {"": PHONE.document}}):
        with pytest.raises(ValueError, match=r"an? "):
            parse_guests(bad)


def test_a_guest_counts_while_its_member_leases_its_address() -> None:
    entries = {MEMBER: entry(phone=PHONE)}
    admitted, unusable = admit(entries, {ADDRESS: MEMBER}, [])
    assert [(each.name, each.by) for each in admitted.values()] == [("phone", MEMBER)]
    assert not unusable
    assert admit(entries, {ADDRESS: OTHER}, [])[0] == {}
    assert admit(entries, {}, [])[0] == {}


def test_the_key_of_a_node_is_not_a_guests() -> None:
    assert admit({MEMBER: entry(phone=PHONE)}, {ADDRESS: MEMBER}, [KEY, ["unhashable"]])[0] == {}


def test_of_two_members_with_one_guest_the_lower_counts() -> None:
    second = Guest(KEY, IPv4Address("10.1.0.10"))
    leases = {ADDRESS: OTHER, second.address: MEMBER}
    entries = {OTHER: entry(phone=PHONE), MEMBER: entry(phone=second)}
    assert admit(entries, leases, [])[0][KEY].by == MEMBER


def test_the_data_plane_gets_guests_beside_nodes() -> None:
    leases = {ADDRESS: MEMBER, IPv4Address("10.1.0.1"): MEMBER}
    admitted, _ = admit({MEMBER: entry(phone=PHONE)}, leases, [NODE_KEY])
    peers = furnish(make_roster(introduce(view(leases), admitted)).peers, admitted, SECRET)
    node, phone = peers[NODE_KEY], peers[KEY]
    assert "10.1.0.1" in node.addresses
    assert "10.1.0.9" not in node.addresses
    assert node.psk is None
    assert "10.1.0.9" in phone.addresses
    assert phone.endpoints == ("192.0.2.9:51820",)
    assert (phone.eager, phone.keepalive) == (True, 25.0)
    assert phone.psk == guest_psk(SECRET, KEY) != SECRET


def test_a_guest_without_an_endpoint_is_not_knocked_at() -> None:
    guest = Guest(KEY, ADDRESS, keepalive=25)
    admitted, _ = admit({MEMBER: entry(phone=guest)}, {ADDRESS: MEMBER}, [])
    peer = furnish(make_roster(introduce(view({ADDRESS: MEMBER}), admitted)).peers, admitted, SECRET)[KEY]
    assert (peer.endpoints, peer.eager, peer.keepalive) == ((), False, 0.0)


def test_each_guest_has_a_secret_of_its_own_that_shows_nowhere() -> None:
    secret = guest_psk(SECRET, KEY)
    assert len({secret, guest_psk(SECRET, NODE_KEY), guest_psk(bytes(32), KEY), SECRET}) == 4
    admitted, _ = admit({MEMBER: entry(phone=PHONE)}, {ADDRESS: MEMBER}, [])
    peers = furnish(make_roster(introduce(view({ADDRESS: MEMBER}), admitted)).peers, admitted, SECRET)
    assert repr(secret)[2:-1] not in repr(peers)
