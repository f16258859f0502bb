"""Conversations: two nodes that say little to each other, but all the time, have sockets for that (`hotlines`)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytestmark = pytest.mark.system


def hotlines(machine: Any) -> dict[str, str]:
    """Return where the connected sockets at the node's port go, and from which address."""
    listed = machine.run("ss", "-Huan", "state", "established").split("\n")
    ends = [line.split()[-2:] for line in listed if line.strip()]
    port = machine.entry["port"]
    return {
        there.rpartition(":")[0]: here.rpartition(":")[0]
        for here, there in ends
        if here.rpartition(":")[2] == str(port)
    }


@contextmanager
def conversation(one: Any, other: Any, seconds: float) -> Iterator[Callable[[], int]]:
    """Ping 40 times a second meanwhile; what it gives waits for the end and says how many pings were lost."""
    words = ("ping", "-n", "-q", "-i0.025", "-W1", f"-c{int(40 * seconds)}", other.address)
    with subprocess.Popen(["ip", "netns", "exec", one.namespace, *words], stdout=subprocess.PIPE, text=True) as ping:

        def lost() -> int:
            said = ping.communicate(timeout=seconds + 30)[0]
            counted = re.search(r"(\d+) packets transmitted, (\d+) received", said)
            assert counted, said
            return int(counted[1]) - int(counted[2])

        try:
            yield lost
        finally:
            ping.kill()


def test_both_have_a_socket_for_it_until_it_is_over_and_lose_nothing(three: Any, wait: Any) -> None:
    alice, bob, _ = three
    with conversation(alice, bob, 6) as lost:
        for here, there in ((alice, bob), (bob, alice)):
            wait(lambda here=here, there=there: there.underlay in hotlines(here), 5, "a hotline")
        assert lost() == 0
    for machine in (alice, bob):
        wait(lambda machine=machine: not hotlines(machine), 5, "given up")
    assert alice.pings(bob)


def test_a_stream_in_the_midst_of_it_comes_whole_and_hardly_a_packet_is_lost(three: Any, wait: Any, talk: Any) -> None:
    alice, bob, _ = three
    with conversation(alice, bob, 6) as lost:
        wait(lambda: bob.underlay in hotlines(alice) and alice.underlay in hotlines(bob), 5, "hotlines")
        talker = talk(alice, bob, 2)
        assert talker.wait(30) == 0
        assert lost() <= 3, "of 240: the device's queue is full of the stream"


def test_it_goes_on_when_one_moves_to_another_address(three: Any, wait: Any) -> None:
    alice, bob, _ = three
    with conversation(alice, bob, 12) as lost:
        wait(lambda: bob.underlay in hotlines(alice) and alice.underlay in hotlines(bob), 5, "hotlines")
        bob.run("ip", "addr", "add", "192.0.2.200/24", "dev", "eth0")
        bob.run("ip", "addr", "del", f"{bob.underlay}/24", "dev", "eth0")
        bob.run("ip", "addr", "add", "192.0.2.200/24", "dev", "eth0", check=False)
        wait(lambda: "192.0.2.200" in hotlines(alice), 5, "alice has one to where bob is now")
        wait(lambda: hotlines(bob).get(alice.underlay) == "192.0.2.200", 5, "bob has one from there")
        assert lost() <= 80, "two seconds'"


def test_it_leaves_from_where_the_kernel_sends_from_now(three: Any, wait: Any) -> None:
    alice, bob, _ = three
    with conversation(alice, bob, 12) as lost:
        wait(lambda: hotlines(alice).get(bob.underlay) == alice.underlay, 5, "a hotline")
        alice.run("ip", "addr", "add", "192.0.2.201/24", "dev", "eth0")
        alice.run("ip", "route", "add", f"{bob.underlay}/32", "dev", "eth0", "src", "192.0.2.201")
        wait(lambda: hotlines(alice).get(bob.underlay) == "192.0.2.201", 5, "one from the other address")
        assert lost() == 0
