from ipaddress import ip_interface

from kairos_discovery_mdns.lan import Lan, lan_of
from kairos_discovery_mdns.links import Link

UP, LOOPBACK, TUNNEL, MULTICAST = 0x1, 0x8, 0x10, 0x1000
ETHERNET = UP | MULTICAST


def link(name: str, *addresses: str, index: int = 2, flags: int = ETHERNET) -> Link:
    return Link(index, name, flags, tuple(ip_interface(a) for a in addresses))


def test_a_lan_interface_is_announced_with_all_its_addresses() -> None:
    eth0 = link("eth0", "192.168.1.7/24", "192.168.1.8/24", "2001:db8::7/64", "fe80::7/64")
    assert lan_of([eth0]) == Lan(
        sources=("192.168.1.7", 2),
        addresses=("192.168.1.7", "192.168.1.8", "2001:db8::7", "fe80::7"),
        names=("eth0",),
    )


def test_what_is_no_lan_is_left_out() -> None:
    links = [
        link("lo", "127.0.0.1/8", flags=UP | LOOPBACK),
        link("docker0", "172.17.0.1/16"),
        link("flannel.1", "10.42.0.0/32"),
        link("kairos0", "10.1.0.7/24", flags=UP | TUNNEL | MULTICAST),
        link("office", "10.8.0.2/24", flags=UP | TUNNEL | MULTICAST),  # a tunnel by any name
        link("eth1", "192.168.2.7/24", flags=MULTICAST),  # down
        link("eth2"),  # without an address
    ]
    assert lan_of(links) == Lan()


def test_forced_interfaces_are_the_only_ones() -> None:
    links = [link("eth0", "192.168.1.7/24"), link("docker0", "172.17.0.1/16", index=3)]
    assert lan_of(links, ["docker0"]).names == ("docker0",)


def test_an_interface_with_ipv6_only_is_a_lan_too() -> None:
    assert lan_of([link("eth0", "fe80::7/64", index=4)]).sources == (4,)


def test_an_elastic_ip_is_not_announced_as_ours() -> None:
    assert lan_of([link("eth0", "192.168.1.7/24", "192.168.1.110/32")]).addresses == ("192.168.1.7",)


def test_a_machine_whose_only_address_is_a_host_route_is_announced() -> None:
    assert lan_of([link("eth0", "95.217.1.2/32")]).addresses == ("95.217.1.2",)
