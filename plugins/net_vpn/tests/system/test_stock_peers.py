"""Debian's wireguard-go on one side, our data plane on the other: what a phone or a router would see."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kairos_core.protocol.identity import Identity
from kairos_core.testing.networks import SharedLedger

pytestmark = pytest.mark.system

PORT = 51820
QUICK = {"rekey_after": 1.0, "reject_after": 30.0}
"""Our side begins a new session every second; what wireguard-go does by its own clock stays."""

CATCH = """
import socket, sys
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
tap.bind((sys.argv[1], 0))
tap.settimeout(30)
print("ready", flush=True)
while True:
    frame = tap.recv(2048)
    to = frame[30:34] == socket.inet_aton(sys.argv[3])
    if to and frame[23] == 17 and frame[42:46] == bytes([int(sys.argv[2]), 0, 0, 0]):
        print(frame[42:].hex(), flush=True)
        break
"""
PING = """
import os, sys
os.execvp("ping", ["ping", "-qn", "-i0.1", sys.argv[1]])
"""
FLOOD = """
import hashlib, socket, sys, time
host, port, public = sys.argv[1], int(sys.argv[2]), bytes.fromhex(sys.argv[3])
rate, seconds = map(float, sys.argv[4:6])
key = hashlib.blake2s(b"mac1----" + public).digest()
head = bytes([1, 0, 0, 0]) + bytes(4) + bytes([9]) + bytes(107)
knock = head + hashlib.blake2s(head, key=key, digest_size=16).digest() + bytes(16)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
began, sent = time.monotonic(), 0
while (spent := time.monotonic() - began) < seconds:
    for _ in range(64):
        udp.sendto(knock, (host, port))
    sent += 64
    time.sleep(max(0.0, sent / rate - spent))
print(sent)
"""
"""Knocks that cost the receiver a key exchange: it is for its key, and from nobody."""


class Stock:
    """wireguard-go in a machine of the lab, with our nodes as its peers."""

    def __init__(self, machine: Any, wait: Callable[..., Any]) -> None:
        self.machine, self._wait = machine, wait
        self.namespace, self.address, self.underlay = machine.namespace, machine.address, machine.underlay
        # Its control socket lies in /var/run/wireguard, which all namespaces share.
        self.interface = f"w{machine.lab.prefix[4:]}{machine.number}"
        self.identity = Identity(bytes([machine.number]) * 32)
        self.private = self.identity.exchange_key("vpn")
        self.public = self.private.public_key().public_bytes_raw()
        self._daemon: subprocess.Popen[bytes] | None = None

    def say_in_ledger(self, *, has_port: bool = True) -> None:
        """Write what a node would publish; without a port our side waits for it to knock."""
        reached = {"port": PORT, "address": self.address, "hosts": [self.underlay]} if has_port else {}
        document = {
            "peer": str(self.identity.peer_id),
            "underlay": self.underlay,
            "leases": [self.address],
            "vpn": {"key": base64.b64encode(self.public).decode(), **reached},
        }
        (self.machine.lab.directory / f"{self.machine.number}.json").write_text(json.dumps(document))

    def start(self, *peers: Any, knows_endpoint: bool = True) -> None:
        """Start the daemon and give it its configuration."""
        self._daemon = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, "wireguard-go", "-f", self.interface],
            env={**os.environ, "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        socket = Path(f"/var/run/wireguard/{self.interface}.sock")
        self._wait(lambda: self.machine.has_interface(self.interface) and socket.exists(), 10, "wireguard-go is up")
        config = self.machine.lab.directory / f"{self.interface}.conf"
        config.touch(0o600)
        secret = base64.b64encode(SharedLedger().secret("vpn psk")).decode()
        lines = [
            "[Interface]",
            f"ListenPort = {PORT}",
            f"PrivateKey = {base64.b64encode(self.private.private_bytes_raw()).decode()}",
        ]
        for peer in peers:
            lines += ["[Peer]", f"PublicKey = {peer.entry['key']}", f"AllowedIPs = {peer.address}/32"]
            lines += [f"PresharedKey = {secret}"]
            lines += [f"Endpoint = {peer.underlay}:{peer.entry['port']}"] if knows_endpoint else []
        config.write_text("\n".join(lines) + "\n")
        self.machine.run("wg", "setconf", self.interface, str(config))
        self.machine.run("ip", "addr", "add", f"{self.address}/24", "dev", self.interface)
        self.machine.run("ip", "link", "set", self.interface, "up", "mtu", "1420")

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(10)
            self._daemon = None

    def handshake(self, peer: Any) -> int:
        """Return when the newest session with a node was made (unix seconds), 0 for never."""
        shown = dict(line.split("\t") for line in self.show("latest-handshakes").splitlines())
        return int(shown[peer.entry["key"]])

    def show(self, what: str) -> str:
        return str(self.machine.run("wg", "show", self.interface, what))

    def iperf(self, server: Any, client: Any, *options: str, seconds: float = 2.0) -> dict[str, Any]:
        """Transfer by TCP from client to server (`-R`: the other way) and return what the client measured."""
        command = ["ip", "netns", "exec", server.namespace, "iperf3", "-s", "-1", "-B", server.address]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as daemon:
            try:
                self._wait(lambda: ":5201" in _run(server, "ss", "-Htln"), 5, "iperf3 listens")
                text = _run(client, "iperf3", "-J", "-c", server.address, "-t", str(seconds), *options)
            finally:
                daemon.terminate()
        end: dict[str, Any] = json.loads(text)["end"]
        return end


def _run(where: Any, *command: str) -> str:
    return str((where.machine if isinstance(where, Stock) else where).run(*command))


@pytest.fixture
def alice(lab: Any) -> Any:
    return lab.add()


@pytest.fixture
def stock(lab: Any, alice: Any, wait: Any) -> Iterator[Stock]:
    stock = Stock(lab.add(), wait)
    try:
        yield stock
    finally:
        stock.stop()


def test_a_stock_peer_that_knocks_is_answered(alice: Any, stock: Stock, wait: Any) -> None:
    stock.say_in_ledger(has_port=False)
    alice.start()
    stock.start(alice)
    wait(lambda: alice.pings(stock) or stock.machine.pings(alice), 10, "a session")
    assert stock.machine.pings(alice, "-c5", "-i0.1")
    assert alice.pings(stock, "-c5", "-i0.1", "-s1392")
    assert not {name for name in alice.status["drops"] if "unseal" in name or "bad_mac" in name}


def test_a_stock_peer_answers_when_we_knock(alice: Any, stock: Stock, wait: Any) -> None:
    stock.say_in_ledger()
    alice.start()
    stock.start(alice, knows_endpoint=False)
    alice.reaches(stock, 10)
    assert stock.machine.pings(alice, "-c5", "-i0.1", "-s1392")


def test_tcp_goes_both_ways(alice: Any, stock: Stock) -> None:
    stock.say_in_ledger()
    alice.start()
    stock.start(alice)
    alice.reaches(stock, 10)
    for options in ((), ("-R",)):
        end = stock.iperf(stock, alice, *options)
        assert end["sum_received"]["bytes"] > 1_000_000
    end = stock.iperf(alice, stock)
    assert end["sum_received"]["bytes"] > 1_000_000
    assert not {name for name in alice.status["drops"] if "unseal" in name or "replayed" in name}


def test_sessions_that_we_renew_lose_nothing_of_a_transfer(alice: Any, stock: Stock, wait: Any) -> None:
    stock.say_in_ledger()
    alice.start(timing=QUICK)
    stock.start(alice)
    alice.reaches(stock, 10)
    before = stock.handshake(alice)
    end = stock.iperf(stock, alice, seconds=5)
    assert end["sum_received"]["bytes"] > 1_000_000
    assert stock.handshake(alice) >= before + 3
    assert alice.pings(stock, "-c30", "-i0.1")
    assert not {name for name in alice.status["drops"] if "unseal" in name or "expired" in name}


@pytest.mark.timeout(300)
def test_sessions_that_the_stock_peer_renews_lose_nothing(alice: Any, stock: Stock) -> None:
    """wireguard-go renews after its own 120 s, which nothing shortens."""
    stock.say_in_ledger(has_port=False)
    alice.start()
    stock.start(alice)
    wait_until = time.monotonic() + 10
    while not stock.machine.pings(alice) and time.monotonic() < wait_until:
        pass
    first = stock.handshake(alice)
    for _ in range(5):
        assert stock.machine.pings(alice, "-c130", "-i0.2")
    assert first + 119 <= stock.handshake(alice) <= first + 128
    assert alice.pings(stock, "-c3", "-i0.1")


def test_a_stock_peer_that_moves_is_followed(alice: Any, stock: Stock, wait: Any) -> None:
    stock.say_in_ledger()
    alice.start()
    stock.start(alice)
    alice.reaches(stock, 10)
    stock.machine.run("ip", "addr", "add", "192.0.2.222/24", "dev", "eth0")
    stock.machine.run("ip", "addr", "del", f"{stock.underlay}/24", "dev", "eth0")
    stock.machine.run("ip", "addr", "add", "192.0.2.222/24", "dev", "eth0", check=False)
    stock.machine.run("wg", "set", stock.interface, "listen-port", "51999")
    assert stock.machine.pings(alice, "-c3", "-i0.2")
    key = base64.b64encode(stock.public).decode()
    wait(lambda: alice.status["peers"][key]["endpoint"] == "192.0.2.222:51999", 5, "followed")
    assert alice.pings(stock, "-c3", "-i0.2")


def test_we_are_followed_when_we_move(alice: Any, stock: Stock, wait: Any) -> None:
    stock.say_in_ledger()
    alice.start()
    stock.start(alice)
    alice.reaches(stock, 10)
    alice.run("ip", "addr", "add", "192.0.2.111/24", "dev", "eth0")
    alice.run("ip", "addr", "del", f"{alice.underlay}/24", "dev", "eth0")
    alice.run("ip", "addr", "add", "192.0.2.111/24", "dev", "eth0", check=False)
    alice.reaches(stock, 5)
    assert f"192.0.2.111:{alice.entry['port']}" in stock.show("endpoints")
    assert stock.machine.pings(alice, "-c3", "-i0.2")


def test_either_side_restarts(alice: Any, stock: Stock) -> None:
    stock.say_in_ledger()
    alice.start()
    stock.start(alice)
    alice.reaches(stock, 10)
    stock.stop()
    stock.start(alice)
    stock.machine.reaches(alice, 5)
    assert alice.pings(stock, "-c3", "-i0.2")
    alice.kill()
    alice.start()
    alice.reaches(stock, 10)
    assert stock.machine.pings(alice, "-c3", "-i0.2")


@contextmanager
def running(namespace: str, source: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program in a namespace meanwhile."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", source, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def catching(machine: Any, kind: int, destination: str) -> Iterator[Callable[[], bytes]]:
    """Yield what waits for the first datagram of a type to an address, seen at the switch's port of a machine."""
    with running(machine.lab.switch, CATCH, f"p{machine.number}", kind, destination) as catcher:
        assert catcher.stdout is not None
        assert catcher.stdout.readline() == "ready\n"
        yield lambda: bytes.fromhex(catcher.communicate(timeout=20)[0].strip())


def test_we_prove_our_address_to_a_stock_peer_under_load(lab: Any, alice: Any, stock: Stock, wait: Any) -> None:
    eve = lab.add()
    stock.say_in_ledger()
    alice.start(timing=QUICK)
    stock.start(alice)
    alice.reaches(stock, 10)
    flood = running(eve.namespace, FLOOD, stock.underlay, PORT, stock.public.hex(), 10**6, 60)
    ping = running(alice.namespace, PING, stock.address)  # what makes us renew the session
    with catching(alice, 3, alice.underlay) as caught, flood, ping:
        assert len(caught()) == 64
        before = stock.handshake(alice)
        wait(lambda: stock.handshake(alice) > before + 1, 20, "sessions are renewed under load")
    alice.reaches(stock, 5)
    assert "vpn_unseal" not in alice.status["drops"]


def test_a_stock_peer_proves_its_address_to_us_under_load(lab: Any, alice: Any, stock: Stock, wait: Any) -> None:
    eve = lab.add()
    stock.say_in_ledger(has_port=False)
    alice.start()
    port, public = alice.entry["port"], base64.b64decode(alice.entry["key"])
    with running(eve.namespace, FLOOD, alice.underlay, port, public.hex(), 4000, 60) as attack:
        wait(lambda: alice.drops("vpn_cookie") > 500, 10, "under load")
        with catching(stock.machine, 3, stock.underlay) as caught:
            stock.start(alice)
            stock.machine.reaches(alice, 20)
            assert len(caught()) == 64
        assert attack.poll() is None
        assert stock.handshake(alice) > 0
