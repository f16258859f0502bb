"""A flood of handshakes from 10,000 sources that do not exist, by somebody who knows the node's public key."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.system

SOURCES = 10_000
RATE = 5_000
"""Datagrams in a second; a key exchange for each would take one and a half processors."""
QUICK = {"rekey_after": 2.0, "reject_after": 4.0, "keepalive": 0.5, "rekey_timeout": 0.5}
"""Sessions that die within the flood unless they are renewed."""
GATEWAY = "02:00:00:00:00:99"  # where answers to the sources go: nobody has it

SPOOF = """
import hashlib, socket, struct, sys, time
port, address, target, number = sys.argv[1:5]
public, sources, rate = bytes.fromhex(sys.argv[5]), int(sys.argv[6]), int(sys.argv[7])
key = hashlib.blake2s(b"mac1----" + public).digest()
head = bytes([1, 0, 0, 0]) + bytes(4) + bytes([9]) + bytes(107)
knock = head + hashlib.blake2s(head, key=key, digest_size=16).digest() + bytes(16)
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
tap.bind((port, 0))
def frame(source):
    udp = struct.pack("!4H", 1024 + source, int(number), 8 + len(knock), 0)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(knock), 0, 0, 64, 17, 0,
                     bytes([10, 66, source >> 8, source & 255]), socket.inet_aton(target))
    total = sum(struct.unpack("!10H", ip))
    total = (total & 65535) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", 65535 - ((total & 65535) + (total >> 16))) + ip[12:]
    return bytes.fromhex(address.replace(":", "")) + bytes.fromhex("020000000001") + b"\\x08\\0" + ip + udp + knock
frames = [frame(source) for source in range(sources)]
began, sent = time.monotonic(), 0
while True:
    for step in range(100):
        tap.send(frames[(sent + step) % sources])
    sent += 100
    time.sleep(max(0.0, sent / rate - (time.monotonic() - began)))
"""


def test_peers_talk_renew_and_meet_through_a_flood(lab: Any, wait: Any) -> None:
    alice, bob, eve = (lab.add() for _ in range(3))
    for machine in (alice, bob):
        machine.start(timing=QUICK)
    alice.reaches(bob)
    bob.run("ip", "neigh", "add", "192.0.2.99", "lladdr", GATEWAY, "dev", "eth0")
    bob.run("ip", "route", "add", "10.66.0.0/16", "via", "192.0.2.99")
    key = base64.b64decode(bob.entry["key"]).hex()
    address = bob.run("cat", "/sys/class/net/eth0/address").strip()
    arguments = ["eth0", address, bob.underlay, str(bob.entry["port"]), key, str(SOURCES), str(RATE)]
    command = ["ip", "netns", "exec", eve.namespace, sys.executable, "-c", SPOOF, *arguments]
    with subprocess.Popen(command) as attack:
        try:
            wait(lambda: bob.drops("vpn_cookie") > 2 * RATE, 15, "under load")
            for one, other in ((alice, bob), (bob, alice)):
                said = one.run("ping", "-qn", "-c60", "-i0.1", "-W2", other.address, check=False)  # 6 s: three sessions
                assert int(re.findall(r"(\d+) received", said)[0]) >= 57, said
            assert alice.status["peers"][bob.entry["key"]]["handshake"] < 3.5
            carol = lab.add()
            carol.start(timing=QUICK)
            carol.reaches(bob, 10)
            bob.reaches(carol, 5)
            assert attack.poll() is None
        finally:
            attack.kill()
    assert bob.drops("vpn_dataplane_died") == 0
