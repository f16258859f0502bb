"""Nodes that cannot reach each other talk through a third; underlays of any MTU work without configuration."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

pytestmark = pytest.mark.system

SERVE = """
import socket, sys
listener = socket.create_server((sys.argv[1], 7001))
print("ready", flush=True)
while True:
    peer, _ = listener.accept()
    size = 0
    while part := peer.recv(1 << 16):
        size += len(part)
    peer.sendall(str(size).encode())
    peer.close()
"""
SEND = """
import socket, sys
peer = socket.create_connection((sys.argv[1], 7001), timeout=10)
peer.sendall(bytes(int(sys.argv[2])))
peer.shutdown(socket.SHUT_WR)
print(peer.recv(100).decode())
"""
SIZE = 4 << 20


def forbid(run: Any, one: Any, other: Any) -> None:
    """Let a machine neither send to another nor hear from it."""
    rules = f"""
    table ip wall {{
        chain input {{ type filter hook input priority 0; ip saddr {other.underlay} drop; }}
        chain output {{ type filter hook output priority 0; ip daddr {other.underlay} drop; }}
    }}"""
    run("ip", "netns", "exec", one.namespace, "nft", rules)


def permit(run: Any, one: Any) -> None:
    run("ip", "netns", "exec", one.namespace, "nft", "delete table ip wall")


def transfers(one: Any, other: Any) -> bool:
    """Say whether all of a TCP stream arrives at another machine."""
    command = ["ip", "netns", "exec", other.namespace, sys.executable, "-c", SERVE, other.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            return one.python(SEND, other.address, str(SIZE)).strip() == str(SIZE)
        finally:
            server.kill()


def test_two_nodes_talk_through_a_third_and_directly_once_the_firewall_opens(lab: Any, run: Any, wait: Any) -> None:
    alice, bob, carol = (lab.add() for _ in range(3))
    for one, other in ((alice, bob), (bob, alice)):
        forbid(run, one, other)
    for machine in (alice, bob, carol):
        machine.start()
    alice.reaches(bob, 10)
    for one, other in ((alice, bob), (bob, alice)):
        wait(lambda one=one, other=other: one.way_to(other).get("path") == f"relay {carol.entry['key']}", 5, "relayed")
    assert alice.pings(bob, "-c5", "-i0.2")
    assert bob.pings(alice, "-c1", "-s1392", "-Mdo")
    assert transfers(alice, bob)
    assert transfers(bob, alice)
    for one in (alice, bob):
        permit(run, one)
    opened = time.monotonic()
    for one, other in ((alice, bob), (bob, alice)):
        wait(lambda one=one, other=other: one.way_to(other).get("path") == "direct", 5, "direct")
    assert time.monotonic() - opened < 5
    assert alice.pings(bob, "-c5", "-i0.2")
    assert transfers(alice, bob)


def test_a_wall_in_the_middle_of_a_conversation_is_walked_around(three: Any, run: Any, wait: Any) -> None:
    alice, bob, _ = three
    assert transfers(alice, bob)
    for one, other in ((alice, bob), (bob, alice)):
        forbid(run, one, other)
    alice.reaches(bob, 6)
    wait(lambda: alice.way_to(bob).get("path", "").startswith("relay"), 3, "relayed")
    for one in (alice, bob):
        permit(run, one)
    wait(lambda: alice.way_to(bob)["path"] == "direct" == bob.way_to(alice)["path"], 5, "direct")


def test_when_the_relay_is_killed_another_is_taken(lab: Any, run: Any, wait: Any) -> None:
    alice, bob, carol, dave = (lab.add() for _ in range(4))
    for one, other in ((alice, bob), (bob, alice)):
        forbid(run, one, other)
    for machine in (alice, bob, carol, dave):
        machine.start()
    alice.reaches(bob, 10)
    relays = {f"relay {machine.entry['key']}": machine for machine in (carol, dave)}
    wait(lambda: alice.way_to(bob)["path"] in relays, 5, "relayed")
    first = relays.pop(alice.way_to(bob)["path"])
    (second,) = relays
    first.cut_power()
    alice.reaches(bob, 8)
    wait(lambda: alice.way_to(bob)["path"] == second == bob.way_to(alice)["path"], 3, "the other relay")
    assert alice.pings(bob, "-c5", "-i0.2")


@pytest.mark.parametrize(("here", "there"), [(1280, 1280), (1400, 1400), (9000, 9000), (9000, 1400), (1500, 1280)])
def test_an_underlay_of_any_mtu_works_without_configuration(lab: Any, wait: Any, here: int, there: int) -> None:
    """Where the two differ the switch swallows what is too large, and says nothing: a black hole."""
    alice, bob = lab.add(here), lab.add(there)
    for machine in (alice, bob):
        machine.start()
    alice.reaches(bob, 10)
    bob.reaches(alice)
    narrowest = min(here, there)
    for one, other in ((alice, bob), (bob, alice)):
        wait(
            lambda one=one, other=other: narrowest - 8 <= (one.way_to(other).get("mtu") or 0) <= narrowest, 8, "its MTU"
        )
        assert one.pings(other, "-c1", "-s1252", "-Mdo" if narrowest > 1280 else "-Mdont")
        assert one.pings(other, "-c1", "-s8000")
        assert transfers(one, other)
