"""A TCP stream over a path that loses one frame in a hundred: it is told of few of them."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.system

BLOCKS, ENOUGH = 200, 130
"""Blocks of 180 datagrams, and how many at least: 230 of their datagrams are lost then."""
LONGEST = 30.0
"""Seconds, after which fewer blocks are sent on a machine that is busy with something else."""
PACE = 0.01
"""Seconds between two blocks: 200 Mbit/s, and less on a machine of which that is more than an eighth of what it
carries. The path shall be what loses, and not this machine's processor."""
SEND = """
import random, socket, sys, time
tcp = socket.create_connection((sys.argv[1], 5000), 10)
block = random.Random(1).randbytes(1 << 18)
began = time.monotonic()
for _ in range(int(sys.argv[2])):
    tcp.sendall(block)
    time.sleep(float(sys.argv[3]))
tcp.shutdown(socket.SHUT_WR)
print(tcp.makefile("rb").read().decode(), time.monotonic() - began)
"""
TAKE = """
import hashlib, socket, sys
server = socket.create_server((sys.argv[1], 5000))
print("ready", flush=True)
tcp, _ = server.accept()
digest = hashlib.sha256()
while block := tcp.recv(1 << 18):
    digest.update(block)
tcp.sendall(digest.hexdigest().encode())
"""
EXPECTED = """
import hashlib, random, sys
print(hashlib.sha256(random.Random(1).randbytes(1 << 18) * int(sys.argv[1])).hexdigest())
"""
JOIN = """
import array, fcntl, socket, struct
# ETHTOOL_SGRO of SIOCETHTOOL (linux/ethtool.h): a veth joins what arrives only when it is told to.
value = array.array("I", [0x2C, 1])
with socket.socket() as control:
    fcntl.ioctl(control, 0x8946, struct.pack("16sP16x", b"eth0", value.buffer_info()[0]))
"""
RULES = """table netdev course {
    counter lost { }
    chain cable {
        type filter hook ingress device "p1" priority 0; policy accept;
        meta l4proto udp numgen random mod 1000 < 10 counter name lost drop
    }
}"""


def retransmitted(machine: Any) -> int:
    """Return the segments that its TCP has sent again (RFC 4022, tcpRetransSegs)."""
    names, values = re.findall(r"^Tcp: (.*)$", machine.run("cat", "/proc/net/snmp"), re.MULTILINE)
    return int(dict(zip(names.split(), values.split(), strict=True))["RetransSegs"])


def stream(alice: Any, bob: Any, blocks: int, pace: float) -> tuple[str, float]:
    """Send so many blocks; return the digest of what came, and the seconds that it took."""
    taking = subprocess.Popen(
        ["ip", "netns", "exec", bob.namespace, sys.executable, "-c", TAKE, bob.address],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert taking.stdout is not None
        assert taking.stdout.readline() == "ready\n"
        digest, seconds = alice.python(SEND, bob.address, str(blocks), str(pace)).split()
    finally:
        taking.kill()
        taking.wait(10)
        taking.stdout.close()
    return digest, float(seconds)


def test_tcp_hardly_notices_that_one_frame_in_a_hundred_is_lost(lab: Any, run: Any) -> None:
    alice, bob = lab.add(), lab.add()
    for machine in (alice, bob):
        machine.run("ip", "link", "set", "eth0", "gso_max_segs", "1")  # so that a loss takes one datagram
        machine.python(JOIN)
        machine.start()
    alice.reaches(bob)
    _, seconds = stream(alice, bob, BLOCKS, 0)
    run("ip", "netns", "exec", lab.switch, "nft", RULES)
    before = retransmitted(alice)
    pace = max(PACE, 8 * seconds / BLOCKS)
    blocks = min(BLOCKS, max(ENOUGH, int(LONGEST / pace)))
    said, _ = stream(alice, bob, blocks, pace)
    assert said == alice.python(EXPECTED, str(blocks)).strip(), "all of it came as it was sent"
    counted = run("ip", "netns", "exec", lab.switch, "nft", "list", "counter", "netdev", "course", "lost")
    [lost] = [int(number) for number in re.findall(r"packets (\d+)", counted)]
    assert lost > 200, "nothing was lost, so nothing was tested"
    again = retransmitted(alice) - before
    # Measured: 0.1 to 0.9 of them, and 5 where nothing is sent again, since one lost datagram spoils its group.
    assert again < 2 * lost, f"of {lost} lost datagrams TCP made {again} segments that it sent again"
    assert not bob.status["drops"].keys() & {"vpn_unseal", "vpn_malformed", "vpn_tun_refused"}
