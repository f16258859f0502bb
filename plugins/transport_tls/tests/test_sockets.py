import socket
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_transport_tls import TlsSettings
from kairos_transport_tls import sockets as module
from kairos_transport_tls.sockets import bind, from_kernel, to_kernel
from pydantic import ValidationError

from kairos_core import Address, TransportError


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def bound():
    """Binds, and closes in the end."""
    opened = []

    def open_(settings):
        opened.append(bind(settings))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def test_tcp_and_udp_share_one_port_on_every_listening_address(bound):
    sockets = bound(TlsSettings(port=0, listen=("127.0.0.1", "::1")))
    ports = {each.getsockname()[1] for each in (*sockets.tcp, *sockets.udp)}
    assert ports == {sockets.port}
    assert len(sockets.tcp) == len(sockets.udp) == 2


def test_a_default_port_that_is_taken_gives_way_to_a_free_one(bound, taken, monkeypatch):
    monkeypatch.setattr(module, "DEFAULT_PORT", taken)
    assert bound(TlsSettings()).port not in (0, taken)


def test_a_chosen_port_that_is_taken_is_an_error_that_says_what_to_do(taken):
    with pytest.raises(TransportError, match=rf"port {taken} .*in use.*ss -tulpn"):
        bind(TlsSettings(port=taken))


def test_a_port_free_for_tcp_alone_is_not_taken(bound):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        with pytest.raises(TransportError, match="in use"):
            bind(TlsSettings(port=udp.getsockname()[1]))


def test_an_address_of_another_machine_is_an_error_that_says_what_to_do():
    with pytest.raises(TransportError, match="only addresses that this machine has"):
        bind(TlsSettings(port=0, listen=("192.0.2.1",)))


def test_without_ipv6_every_address_is_every_ipv4_address(bound, monkeypatch):
    real = socket.socket

    def without_ipv6(family, kind):
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, kind)

    monkeypatch.setattr(module.socket, "socket", without_ipv6)
    sockets = bound(TlsSettings(port=0))
    assert [each.getsockname()[0] for each in sockets.tcp] == ["0.0.0.0"]


def test_ipv4_and_ipv6_can_be_listed_side_by_side(bound):
    sockets = bound(TlsSettings(port=0, listen=("::", "0.0.0.0")))
    assert [each.family for each in sockets.tcp] == [socket.AF_INET6, socket.AF_INET]


@pytest.mark.parametrize("listen", [("localhost",), ("10.0.0.0/24",), ()])
def test_settings_take_addresses_only(listen):
    with pytest.raises(ValidationError, match=r"not an IP address|at least 1"):
        TlsSettings.checked({"listen": listen})


def test_settings_refuse_a_misspelt_name():
    with pytest.raises(ValidationError, match="prot"):
        TlsSettings.checked({"prot": 1})


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (("10.0.0.1", 7373), Address("10.0.0.1", 7373)),
        (("::ffff:10.0.0.1", 7373, 0, 0), Address("10.0.0.1", 7373)),
        (("fd00::1", 7373, 0, 0), Address("fd00::1", 7373)),
        (("fe80::1", 7373, 0, 1), Address("fe80::1%lo", 7373)),
        (("fe80::1%lo", 7373, 0, 1), Address("fe80::1%lo", 7373)),
        (("fe80::1", 7373, 0, 2_000_000_000), Address("fe80::1%2000000000", 7373)),
    ],
)
def test_addresses_from_the_kernel_are_plain(name, address):
    assert from_kernel(name) == address


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_comes_back_from_the_kernel_as_it_went(ip, port):
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    name = to_kernel(ip, port)
    address = from_kernel((socket.inet_ntop(family, socket.inet_pton(family, name[0])), *name[1:]))
    mapped = getattr(ip, "ipv4_mapped", None)
    assert ip_address(address.host) == (mapped or ip)
    assert address.port == port


def test_a_link_local_address_keeps_its_interface():
    assert to_kernel(ip_address("fe80::1%lo"), 1) == ("fe80::1", 1, 0, socket.if_nametoindex("lo"))
