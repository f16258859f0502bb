import asyncio
import errno
import socket

import pytest
from kairos_transport_tls.datagrams import _send_from

from kairos_core import MAX_DATAGRAM, Address
from kairos_core.testing.transports import RecordingHost, running, within


class FailingSocket:
    """A socket whose sendto fails as the kernel's may."""

    family = socket.AF_INET

    def __init__(self, number):
        self.number = number

    def sendto(self, data, name):
        raise OSError(self.number, "as arranged")


@pytest.mark.parametrize(
    ("number", "drop"),
    [
        (errno.ENETUNREACH, "unreachable"),
        (errno.EPERM, "unreachable"),
        (errno.EMSGSIZE, "path_mtu"),
        (errno.EAGAIN, "send_buffer_full"),
        (errno.ENOBUFS, "send_buffer_full"),
    ],
)
def test_each_way_the_kernel_refuses_has_its_name(number, drop):
    from ipaddress import ip_address

    assert _send_from(FailingSocket(number), b"x", ip_address("127.0.0.1"), 9) == drop


@pytest.mark.parametrize(
    ("destination", "drop"),
    [
        (Address("some.name.invalid", 9), "not_an_address"),
        (Address("fe80::1%nosuch0", 9), "unreachable"),
        (Address("255.255.255.255", 9), "unreachable"),
        (Address("127.0.0.1", 70_000), "unreachable"),
    ],
)
async def test_a_datagram_that_cannot_go_is_counted(member, destination, drop):
    member.transport.send(b"x", destination)
    assert dict(member.host.drops) == {drop: 1}


async def test_a_datagram_over_the_limit_is_counted_by_sender_and_receiver(member):
    member.transport.send(bytes(MAX_DATAGRAM + 1), member.address)
    assert dict(member.host.drops) == {"oversized": 1}
    member.host.drops.clear()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes(MAX_DATAGRAM + 1), (member.address.host, member.address.port))
        await member.host.saw_drop("oversized")
        sender.sendto(b"", (member.address.host, member.address.port))
        assert (await within(member.host.datagrams.get()))[0] == b""


async def test_ipv4_sources_are_plain_though_the_socket_is_ipv6(member):
    member.transport.send(b"x", member.address)
    _, source = await within(member.host.datagrams.get())
    assert source == member.address


async def test_datagrams_and_streams_cross_over_ipv6(make_tls):
    async with running(make_tls(), RecordingHost("left"), RecordingHost("right")) as (left, right):
        right.address = Address("::1", right.address.port)
        near, far = await left.open_stream(right)
        assert (near.address, far.address.host) == (right.address, "::1")
        left.transport.send(b"six", right.address)
        assert await within(right.host.datagrams.get()) == (b"six", Address("::1", left.address.port))


async def test_without_ipv6_sockets_an_ipv6_destination_is_counted(make_tls):
    async with running(make_tls(listen=["127.0.0.1"]), RecordingHost("four")) as (four,):
        four.transport.send(b"x", Address("::1", four.address.port))
        assert dict(four.host.drops) == {"unreachable": 1}


async def test_with_several_listening_addresses_one_that_reaches_the_destination_sends(make_tls):
    hosts = RecordingHost("left"), RecordingHost("right")
    async with running(make_tls(listen=["::1", "127.0.0.1"]), *hosts) as (left, right):
        left.transport.send(b"four", right.address)
        assert await within(right.host.datagrams.get()) == (b"four", left.address)
        left.transport.send(b"six", Address("::1", right.address.port))
        assert (await within(right.host.datagrams.get()))[0] == b"six"
        assert not left.host.drops


async def test_a_flood_of_datagrams_lets_other_work_go_on(member):
    """One turn of the loop takes a batch, not all there is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for n in range(150):
            sender.sendto(bytes([n]), (member.address.host, member.address.port))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert member.host.datagrams.qsize() <= 128
    received = [(await within(member.host.datagrams.get()))[0] for _ in range(150)]
    assert received == [bytes([n]) for n in range(150)]


async def test_a_host_that_closes_the_transport_while_it_takes_a_datagram_does_no_harm(make_tls):
    class Closing(RecordingHost):
        def datagram_received(self, data, source):
            super().datagram_received(data, source)
            self.closing = asyncio.ensure_future(one.transport.close())

    async with running(make_tls(), host := Closing("one")) as (one,):
        for _ in range(3):
            one.transport.send(b"x", one.address)
        await within(host.datagrams.get())
        await host.closing
