"""Over real interfaces: link-local addresses between two network namespaces, and a machine without IPv6."""

import contextlib
import subprocess
import sys
import time
import uuid

import pytest

pytestmark = pytest.mark.system

ECHO = """
import asyncio, sys
from kairos_core.testing.transports import RecordingHost, running, within
from kairos_transport_tls import TlsSettings, TlsTransport

async def main():
    async with running(lambda: TlsTransport(TlsSettings(port=7373)), RecordingHost("server")) as (node,):
        print("ready", flush=True)
        stream = await within(node.host.streams.get(), 30)
        await stream.send(await stream.receive())
        data, source = await within(node.host.datagrams.get(), 30)
        node.transport.send(data, source)
        print(stream.address.host, source, flush=True)
        await within(asyncio.to_thread(sys.stdin.read), 30)

asyncio.run(main())
"""

CALL = """
import asyncio, sys
from kairos_core import Address
from kairos_core.testing.transports import RecordingHost, running, within
from kairos_transport_tls import TlsSettings, TlsTransport

async def main():
    server = Address.parse(sys.argv[1])
    async with running(lambda: TlsTransport(TlsSettings(port=0)), RecordingHost("client")) as (node,):
        stream = await node.transport.connect(server)
        assert stream.address == server, stream.address
        await stream.send(b"stream")
        assert await within(stream.receive()) == b"stream"
        node.transport.send(b"datagram", server)
        data, source = await within(node.host.datagrams.get())
        assert (data, source) == (b"datagram", server), (data, source)
        print(*(f"dropped {name}" for name in node.host.drops), "done", flush=True)

asyncio.run(main())
"""


def ip(*arguments):
    run = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
    return run.stdout


def python_in(namespace, script, *arguments):
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def namespaces():
    """Two namespaces of which each has `wire` to the other, removed in the end."""
    first, second = (f"kt-{uuid.uuid4().hex[:8]}" for _ in range(2))
    try:
        for name in (first, second):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", first, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", second)
        for name in (first, second):
            # No duplicate address detection: the link-local address holds at once.
            sysctl(name, "net.ipv6.conf.wire.accept_dad=0")
            ip("-n", name, "link", "set", "wire", "up")
        for name in (first, second):
            until_routed(name)
        yield first, second
    finally:
        for name in (first, second):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def sysctl(namespace, setting):
    subprocess.run(["ip", "netns", "exec", namespace, "sysctl", "-qw", setting], capture_output=True, check=True)


def until_routed(namespace):
    """Wait for the kernel, which sets the link-local address up to a second after the carrier."""
    end = time.monotonic() + 10
    while "fe80::" not in ip("-n", namespace, "-6", "route", "show", "dev", "wire"):
        assert time.monotonic() < end, f"no link-local route in {namespace}"
        time.sleep(0.05)


def link_local(namespace):
    words = ip("-n", namespace, "-6", "-o", "address", "show", "dev", "wire", "scope", "link").split()
    return words[words.index("inet6") + 1].partition("/")[0]


@contextlib.contextmanager
def echoing(namespace):
    server = python_in(namespace, ECHO)
    try:
        assert server.stdout.readline() == "ready\n"
        yield server
    finally:
        server.stdin.close()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        server.stdout.close()


def call(namespace, address):
    client = python_in(namespace, CALL, address)
    out, _ = client.communicate(timeout=60)
    return out


def test_link_local_addresses_carry_streams_and_datagrams_and_keep_their_interface(namespaces):
    first, second = namespaces
    with echoing(first) as server:
        assert call(second, f"[{link_local(first)}%wire]:7373") == "done\n"
        stream_from, datagram_from = server.stdout.readline().split()
    assert stream_from == f"{link_local(second)}%wire"
    assert datagram_from.startswith(f"[{link_local(second)}%wire]:")


def test_with_ipv6_switched_off_ipv4_carries_all(namespaces):
    first, second = namespaces
    for number, name in enumerate(namespaces, start=1):
        sysctl(name, "net.ipv6.conf.all.disable_ipv6=1")
        ip("-n", name, "address", "add", f"192.0.2.{number}/24", "dev", "wire")
    with echoing(first) as server:
        assert call(second, "192.0.2.1:7373") == "done\n"
        assert server.stdout.readline().split()[0] == "192.0.2.2"
