"""What may happen to a line and to either end of it while a stream goes over it: the stream arrives unaltered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

QUICK = {"rekey_after": 1.0, "reject_after": 2.0, "keepalive": 0.3, "rekey_timeout": 0.2, "flood": 0.001}

BAD_LINE = """
import random, select, socket, sys

def broken(frame):
    # without a UDP checksum, so that the kernel takes what was altered or cut
    frame = bytearray(frame)
    frame[40:42] = b"\\0\\0"
    if chance.random() < 0.5:
        frame[chance.randrange(42, len(frame))] ^= 1 + chance.randrange(255)
        return frame
    frame = frame[: chance.randrange(42, len(frame))]
    frame[16:18], frame[38:40] = (len(frame) - 14).to_bytes(2), (len(frame) - 34).to_bytes(2)
    frame[24:26] = b"\\0\\0"
    total = sum(int.from_bytes(frame[at : at + 2]) for at in range(14, 34, 2))
    total = (total & 0xFFFF) + (total >> 16)
    frame[24:26] = ((total & 0xFFFF) + (total >> 16) ^ 0xFFFF).to_bytes(2)
    return frame

chance = random.Random(1)
ports = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3)) for _ in range(2)]
for port, name in zip(ports, sys.argv[1:]):
    port.bind((name, 0))
held, seen = [], []
print("ready", flush=True)
while True:
    for port in select.select(ports, [], [], 0.05)[0] or [None]:
        if port is None:  # nothing overtakes what waits any more
            for out, frame in held:
                out.send(frame)
            held.clear()
            continue
        frame, (_, _, kind, *_) = port.recvfrom(70000)
        if kind == socket.PACKET_OUTGOING:
            continue
        out = ports[1 - ports.index(port)]
        is_ours = frame[12:14] == b"\\x08\\0" and frame[23] == 17 and len(frame) > 90
        fate = chance.random() if is_ours else 1.0
        if fate < 0.002:
            continue
        if fate < 0.012:
            held.append((out, frame))
            continue
        out.send(broken(frame) if fate < 0.022 else frame)
        if fate > 0.97 and is_ours:
            out.send(frame)
        if is_ours:
            seen = [*seen[-200:], (out, frame)]
        if fate < 0.04 and seen:
            late, again = chance.choice(seen)
            late.send(again)
        if len(held) > 2:
            late, again = held.pop(chance.randrange(len(held)))
            late.send(again)
"""


def two(lab: Any, **settings: Any) -> tuple[Any, Any]:
    """Return two nodes that reach each other."""
    machines = lab.add(), lab.add()
    for machine in machines:
        machine.start(**settings)
    machines[0].reaches(machines[1])
    machines[1].reaches(machines[0])
    return machines


@pytest.fixture
def bad_line(lab: Any, run: Any) -> Any:
    """Two nodes, and between them a line that loses, delays, doubles, alters, cuts and repeats datagrams."""
    alice, bob = lab.add(), lab.add()
    for machine in (alice, bob):  # else the line would carry super-packets, and sums that no card completes
        machine.run("ethtool", "-K", "eth0", "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off")
        run("ip", "-n", lab.switch, "link", "set", f"p{machine.number}", "nomaster", "promisc", "on", "up")
    command = ["ip", "netns", "exec", lab.switch, sys.executable, "-c", BAD_LINE, "p1", "p2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as line:
        assert line.stdout is not None
        assert line.stdout.readline() == "ready\n"
        for machine in (alice, bob):
            machine.start()
        alice.reaches(bob, 10)
        yield alice, bob
        line.kill()


def test_a_stream_over_a_line_that_does_all_a_line_can_do_arrives_unaltered(
    bad_line: Any, wait: Any, talk: Any
) -> None:
    alice, bob = bad_line
    pids = [machine.status["pid"] for machine in bad_line]
    talkers = [talk(alice, bob, 6), talk(bob, alice, 6)]
    assert [talker.wait(60) for talker in talkers] == [0, 0]
    for machine in bad_line:
        for drop in ("vpn_replayed", "vpn_unseal"):
            wait(lambda machine=machine, drop=drop: machine.drops(drop) > 5, 3, f"{drop} is counted")
    assert [machine.status["pid"] for machine in bad_line] == pids
    assert not alice.drops("vpn_dataplane_died") + bob.drops("vpn_dataplane_died")


# -- either end, in the middle of a stream


def test_a_stream_goes_on_while_its_sessions_are_renewed(lab: Any, talk: Any) -> None:
    alice, bob = two(lab, timing=QUICK)
    assert talk(alice, bob, 6).wait(30) == 0
    assert alice.way_to(bob)["handshake"] < 2.5


@pytest.mark.parametrize("sender", [0, 1])
def test_a_stream_goes_on_when_a_data_plane_is_killed(lab: Any, wait: Any, talk: Any, sender: int) -> None:
    machines = two(lab)
    talker = talk(*machines, 5)
    time.sleep(1)
    victim = machines[sender]
    os.kill(victim.status["pid"], signal.SIGKILL)
    assert talker.wait(40) == 0
    wait(lambda: victim.drops("vpn_dataplane_died") == 1, 5, "counted")


@pytest.mark.parametrize("sender", [0, 1])
def test_a_stream_goes_on_when_a_node_loses_its_power_and_comes_back(lab: Any, talk: Any, sender: int) -> None:
    """The streams' ends are other processes, and bear that their address is gone for a while."""
    machines = two(lab)
    talker = talk(*machines, 5)
    time.sleep(1)
    machines[sender].cut_power()
    time.sleep(1)
    machines[sender].start()
    assert talker.wait(60) == 0


def test_a_stream_goes_on_when_a_peer_has_vanished_for_a_while(lab: Any, run: Any, talk: Any) -> None:
    alice, bob = two(lab)
    talker = talk(alice, bob, 5)
    time.sleep(1)
    run("ip", "-n", lab.switch, "link", "set", f"p{bob.number}", "down")
    time.sleep(3)
    assert talker.poll() is None
    run("ip", "-n", lab.switch, "link", "set", f"p{bob.number}", "up")
    assert talker.wait(60) == 0


def test_a_stream_goes_on_when_a_node_moves_to_another_address(lab: Any, wait: Any, talk: Any) -> None:
    alice, bob = two(lab)
    talker = talk(alice, bob, 5)
    for host, before in ((200, 2), (201, 200)):
        time.sleep(1)
        bob.run("ip", "addr", "add", f"192.0.2.{host}/24", "dev", "eth0")
        bob.run("ip", "addr", "del", f"192.0.2.{before}/24", "dev", "eth0")
        bob.run("ip", "addr", "add", f"192.0.2.{host}/24", "dev", "eth0", check=False)
    assert talker.wait(40) == 0
    wait(lambda: alice.way_to(bob)["endpoint"].startswith("192.0.2.201:"), 5, "followed")


def test_a_stream_goes_on_when_the_device_is_deleted(lab: Any, talk: Any) -> None:
    alice, bob = two(lab)
    talker = talk(alice, bob, 5)
    time.sleep(1)
    bob.run("ip", "link", "delete", "kairos0")
    assert talker.wait(60) == 0


def test_a_deleted_device_whose_name_is_taken_is_made_again_once_it_is_free(lab: Any, wait: Any) -> None:
    alice, bob = two(lab)
    pid = bob.status["pid"]
    bob.process.send_signal(signal.SIGSTOP)  # else the agent might be faster
    bob.run("ip", "link", "delete", "kairos0")
    bob.run("ip", "link", "add", "kairos0", "type", "bridge")
    bob.process.send_signal(signal.SIGCONT)
    advice = "Remove it with: ip link delete kairos0; or choose another name with p2p.vpn.interface"
    wait(lambda: "an interface of this name exists; is another kairos running" in bob.log.read_text(), 5, "said")
    assert advice in bob.log.read_text()
    assert bob.process.poll() is None
    bob.run("ip", "link", "delete", "kairos0")
    alice.reaches(bob, 15)
    assert bob.status["pid"] != pid


# -- before there is a tunnel


def test_without_a_tun_device_the_error_says_how_to_get_one(lab: Any) -> None:
    alice = lab.add()
    alice.wrapper = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh")
    with pytest.raises(AssertionError) as failed:
        alice.start()
    said = str(failed.value)
    assert "cannot create the tunnel 'kairos0': /dev/net/tun does not exist" in said
    assert "modprobe tun (a container needs it passed in), or set p2p.vpn.create: false" in said
    assert not list(Path(alice.lab.directory / "1").glob("*.sock"))
