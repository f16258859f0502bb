from hypothesis import given, settings
from hypothesis import strategies as st
from kairos_discovery_mdns.instance import MAX_ADDRESSES, addresses_of, instance_name, rendezvous_of

from kairos_core import Address

RENDEZVOUS = "abcdefghijklmnopqrstuvwxyz"
LINKS = {2: "eth0", 7: "wlan0"}

ips = st.ip_addresses().map(str)
scoped = st.builds(lambda ip, scope: f"{ip}%{scope}", st.ip_addresses(v=6), st.text(max_size=12))
link_local = st.builds("fe80::{:x}%{}".format, st.integers(1, 0xFFFF), st.integers(0, 10))
hosts = st.lists(st.one_of(ips, scoped, link_local, st.text(max_size=40)), max_size=40)


def test_the_rendezvous_name_is_read_back_from_an_instance() -> None:
    assert rendezvous_of(instance_name(RENDEZVOUS, "x7y2")) == RENDEZVOUS


def test_names_have_no_case() -> None:
    assert rendezvous_of(instance_name(RENDEZVOUS, "x7y2").upper()) == RENDEZVOUS


def test_an_instance_of_another_service_has_no_rendezvous() -> None:
    assert rendezvous_of("printer-1._ipp._tcp.local.") is None
    assert rendezvous_of("_kairos._udp.local.") is None
    assert rendezvous_of("nodash._kairos._udp.local.") is None
    assert rendezvous_of("-suffix._kairos._udp.local.") is None


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_name_is_read_without_an_error(name: str) -> None:
    found = rendezvous_of(name)
    assert found is None or (found and "-" not in found)


def test_a_peer_is_tried_by_ipv4_first_and_by_link_local_last() -> None:
    found = addresses_of(7373, ["fe80::9%2", "2001:4860::1", "192.168.1.7"], LINKS)
    assert [str(address) for address in found] == [
        "192.168.1.7:7373",
        "[2001:4860::1]:7373",
        "[fe80::9%eth0]:7373",
    ]


def test_a_link_local_address_without_a_known_interface_is_left_out() -> None:
    assert addresses_of(7373, ["fe80::9", "fe80::9%3", "fe80::9%eth0"], LINKS) == ()


def test_what_cannot_be_a_peer_on_the_lan_is_left_out() -> None:
    hostile = [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "224.0.0.251",
        "ff02::fb",
        "255.255.255.255",
        "::ffff:10.0.0.1",
    ]
    assert addresses_of(7373, hostile, LINKS) == ()


def test_a_record_without_a_port_gives_nothing() -> None:
    for port in (None, 0, -1, 65536):
        assert addresses_of(port, ["192.168.1.7"], LINKS) == ()


def test_one_record_gives_a_bounded_number_of_addresses() -> None:
    many = [f"10.0.{n // 250}.{n % 250 + 1}" for n in range(1000)]
    assert len(addresses_of(7373, many, LINKS)) == MAX_ADDRESSES


@settings(deadline=None)
@given(st.one_of(st.none(), st.integers()), hosts)
def test_any_record_gives_addresses_that_can_be_dialled_or_none(port: int | None, hosts: list[str]) -> None:
    found = addresses_of(port, hosts, LINKS)
    assert len(found) <= MAX_ADDRESSES
    for address in found:
        assert Address.parse(str(address)) == address
        assert not address.is_loopback
        assert address.host.partition("%")[2] in ("", "eth0", "wlan0")
