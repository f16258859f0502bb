"""TCP and UDP through the tunnel with every offload, and with each of them missing on one side."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.system

SERVE = """
import hashlib, socket, sys, threading
address = sys.argv[1]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
tcp = socket.create_server((address, 5000), family=family)
udp = socket.socket(family, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
udp.bind((address, 5001))
print("ready", flush=True)
def stream():
    while True:
        talk, _ = tcp.accept()
        digest = hashlib.sha256()
        while piece := talk.recv(1 << 16):
            digest.update(piece)
            talk.sendall(piece)
        talk.sendall(digest.digest())
        talk.close()
threading.Thread(target=stream, daemon=True).start()
while True:
    datagram, source = udp.recvfrom(65536)
    udp.sendto(datagram, source)
"""
TALK = """
import hashlib, random, socket, sys, threading
here, there = sys.argv[1:3]
data = random.Random(1).randbytes(6 << 20)
tcp = socket.create_connection((there, 5000), 10, (here, 0))
def send():
    tcp.sendall(data)
    tcp.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
back = b"".join(iter(lambda: tcp.recv(1 << 16), b""))
assert back == data + hashlib.sha256(data).digest(), (len(back), len(data))
udp = socket.socket(tcp.family, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
udp.bind((here, 0))
udp.connect((there, 5001))
udp.settimeout(2)
def exchange(sent):
    got = sorted(udp.recv(65536) for _ in sent)
    assert got == sorted(sent), (len(got), len(sent))
for size in (1, 64, 1000, 1392, 1393, 4000, 20000):
    sent = [bytes([i]) * size for i in range(8)]
    for datagram in sent:
        udp.send(datagram)
    exchange(sent)
UDP_SEGMENT = 103
for size, count in ((64, 60), (1000, 40), (1372, 40)):
    udp.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
    sent = [bytes([i]) * size for i in range(count)]
    udp.send(b"".join(sent))
    exchange(sent)
print("passed")
"""
MISSING = [{}, {"aes": False}, {"gso": False}, {"gro": False}, {"uso": False}, {"tso": False}, {"vnet": False},
           {"vnet": False, "gso": False, "gro": False, "aes": False}]  # fmt: skip


def talk(one: Any, other: Any, *, ipv6: bool = False) -> None:
    """Send TCP and UDP from one to the other and back, and check that all of it comes."""
    here, there = (inner_ipv6(machine) if ipv6 else machine.address for machine in (one, other))
    server = subprocess.Popen(
        ["ip", "netns", "exec", other.namespace, sys.executable, "-c", SERVE, there],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        assert one.python(TALK, here, there) == "passed\n"
    finally:
        server.kill()
        server.wait(10)
        server.stdout.close()


def inner_ipv6(machine: Any) -> str:
    (interface,) = json.loads(machine.run("ip", "-json", "-6", "addr", "show", "dev", "kairos0", "scope", "global"))
    return str(interface["addr_info"][0]["local"])


def offloads(machine: Any, wait: Any) -> dict[str, bool]:
    used: dict[str, bool] = wait(lambda: machine.status["offloads"], 5, "statistics")
    return used


@pytest.mark.parametrize("missing", MISSING, ids=lambda missing: "-".join(missing) or "none")
def test_all_passes_both_ways_whatever_the_kernel_lacks(lab: Any, wait: Any, missing: dict[str, bool]) -> None:
    alice, bob = lab.add(), lab.add()
    alice.start(allowed=missing)
    bob.start()
    alice.reaches(bob)
    assert all(offloads(bob, wait).values()), "this machine lacks an offload, so nothing was tested"
    off = {name for name, used in offloads(alice, wait).items() if not used}
    follow = {"vnet": {"vnet", "tso", "uso"}, "tso": {"tso", "uso"}}
    assert off == set().union(*(follow.get(name, {name}) for name in missing))
    for ipv6 in (False, True):
        talk(alice, bob, ipv6=ipv6)
        talk(bob, alice, ipv6=ipv6)
    for machine in (alice, bob):
        assert not machine.status["drops"].keys() & {"vpn_tun_refused", "vpn_malformed", "vpn_unseal", "vpn_replayed"}


def test_a_peer_that_speaks_only_wireguard_gets_packets_whole(lab: Any, wait: Any) -> None:
    alice, bob = lab.add(), lab.add()
    alice.start()
    bob.start(records=False)  # so alice sends it WireGuard's type 4
    alice.reaches(bob)
    for ipv6 in (False, True):
        talk(alice, bob, ipv6=ipv6)
        talk(bob, alice, ipv6=ipv6)
    assert not alice.status["drops"].keys() & {"vpn_tun_refused", "vpn_malformed", "vpn_unseal", "vpn_replayed"}


def test_an_ipv6_underlay_carries_datagrams_of_its_own_size(lab: Any, wait: Any) -> None:
    alice, bob = lab.add(), lab.add()
    for machine in (alice, bob):
        machine.run("ip", "addr", "del", f"{machine.underlay}/24", "dev", "eth0")
        machine.underlay = f"fd99::{machine.number}"
        machine.run("ip", "addr", "add", f"{machine.underlay}/64", "dev", "eth0", "nodad")
        machine.start()
    alice.reaches(bob)
    before = fragments(alice)
    talk(alice, bob)
    assert fragments(alice) == before


def fragments(machine: Any) -> str:
    """Return how many fragments the kernel has made."""
    lines = machine.run("cat", "/proc/net/snmp6").splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Ip6FragCreates"))
