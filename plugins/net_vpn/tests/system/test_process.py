"""The data plane as a process: what it may do, and what becomes of it when its agent does not end in order."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system


def fields(pid: int) -> dict[str, str]:
    """Return what /proc/PID/status says."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def runs(pid: int) -> bool:
    """Say whether a process runs; one that ended may wait for a new parent to take note of it."""
    return Path(f"/proc/{pid}").exists() and not fields(pid)["State"].startswith("Z")


def test_the_data_plane_has_no_privilege_left(three: Any) -> None:
    for machine in three:
        status = fields(machine.status["pid"])
        left = {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        assert left == dict.fromkeys(left, 0)
        assert status["NoNewPrivs"] == "1"
        assert "could not give up" not in machine.log.read_text()


def test_the_data_plane_leaves_no_core_and_no_other_program_reads_its_memory(three: Any) -> None:
    pid = three[0].status["pid"]
    (cores,) = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in line]
    assert cores.split()[4:6] == ["0", "0"]
    # The same user without CAP_SYS_PTRACE: only that the process is not dumpable stands in its way.
    plain = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "cat")
    done = subprocess.run([*plain, f"/proc/{pid}/maps"], capture_output=True, text=True, check=False, timeout=10)
    assert "Permission denied" in done.stderr
    own = subprocess.run([*plain, "/proc/self/maps"], capture_output=True, text=True, check=False, timeout=10)
    assert own.returncode == 0


def test_the_data_plane_holds_only_what_it_was_lent(three: Any) -> None:
    pid = three[0].status["pid"]
    held = sorted(str(Path(link).readlink()).split(":")[0] for link in Path(f"/proc/{pid}/fd").iterdir())
    assert held.count("/dev/net/tun") == 1
    assert {name for name in held if name not in ("/dev/null", "/dev/net/tun", "socket")} <= {
        str(three[0].log)  # standard output and error, for its last words
    }


# -- the agent dies, the packets do not


PINGS = ("ping", "-n", "-i0.05", "-W1", "-q")


def test_packets_go_on_while_the_agent_is_killed_and_started_again(three: Any, wait: Any, talk: Any) -> None:
    alice, bob, _ = three
    pid, index = bob.status["pid"], bob.run("ip", "-o", "link", "show", "kairos0")
    talker = talk(alice, bob, 7)
    ping = subprocess.Popen(
        ["ip", "netns", "exec", alice.namespace, *PINGS, "-c140", bob.address], stdout=subprocess.PIPE, text=True
    )
    for _ in range(2):
        bob.kill()
        assert runs(pid)
        bob.start()
        wait(lambda: bob.status["pid"] == pid, 5, f"taken over ({bob.status['pid']} instead of {pid})")
    said = ping.communicate(timeout=60)[0]
    lost = 140 - int(said.split(" packets transmitted, ")[1].split()[0])
    assert lost <= 1, said
    assert talker.wait(30) == 0
    assert bob.run("ip", "-o", "link", "show", "kairos0") == index
    assert bob.drops("vpn_dataplane_died") == 0


def test_a_data_plane_that_was_taken_over_is_watched_and_told_like_any_other(three: Any, wait: Any) -> None:
    alice, bob, carol = three
    pid = bob.status["pid"]
    bob.kill()
    bob.start()
    wait(lambda: len(bob.status["peers"]) == 2, 5, "statistics")
    os.kill(pid, signal.SIGKILL)
    wait(lambda: bob.status["pid"] not in (pid, None), 5, "a new process")
    wait(lambda: bob.drops("vpn_dataplane_died") == 1, 5, "counted")
    for other in (alice, carol):
        other.reaches(bob)
    pid = bob.status["pid"]
    bob.stop()
    assert not runs(pid)
    assert not bob.has_interface()
    assert not list((bob.lab.directory / "2").glob("*.sock"))


def test_an_agent_without_the_data_plane_s_configuration_starts_afresh(three: Any, wait: Any) -> None:
    alice, bob, _ = three
    for settings in ({"mtu": 1400}, {"interface": "kairos7", "mtu": 1400}, {"interface": "kairos7", "port": 7007}):
        pid = bob.status["pid"]
        bob.kill()
        bob.start(**settings)
        assert not runs(pid)
        assert bob.status["pid"] != pid
        alice.reaches(bob)
    assert not bob.has_interface("kairos0")
    assert bob.entry["port"] == 7007


def test_an_agent_that_wants_no_vpn_leaves_none_behind(three: Any, wait: Any) -> None:
    bob = three[1]
    pid = bob.status["pid"]
    bob.kill()
    bob.start(create=False)
    wait(lambda: not runs(pid), 3, "the data plane ends")
    assert not bob.has_interface()


def test_without_an_agent_the_data_plane_ends_in_time(lab: Any, wait: Any) -> None:
    alice, bob = lab.add(), lab.add()
    alice.start(timing={"linger": 2.0})
    bob.start()
    alice.reaches(bob)
    pid = alice.status["pid"]
    alice.kill()
    time.sleep(1)
    assert bob.pings(alice)
    wait(lambda: not runs(pid), 4, "the data plane ends")
    assert not alice.has_interface()


def test_nothing_that_strangers_say_at_the_door_moves_the_data_plane(three: Any, wait: Any) -> None:
    alice, bob, _ = three
    (door,) = (bob.lab.directory / "2").glob("vpn-*.sock")
    assert stat.S_IMODE(door.stat().st_mode) == 0o600
    pid = bob.status["pid"]
    claims = [b'{"v":1,"kind":"claim","digest":"AAAA"}\n', b'{"v":9,"kind":"claim"}\n', b'{"v":1,"kind":"leave"}\n']
    held: list[socket.socket] = []
    for said in (b"", b"\n", b"{}\n", b"x" * 4096, bytes(range(256)) * 9, *claims):  # while an agent is there
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        caller.settimeout(5)
        caller.connect(str(door))
        caller.sendall(said)
        if said:
            with suppress(ConnectionResetError):
                assert caller.recv(100) == b""
        held.append(caller)
    assert alice.pings(bob)
    assert bob.status["pid"] == pid, bob.log.read_text()
    for caller in held:
        caller.close()
    nobody = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-c"]
    knock = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    done = subprocess.run([*nobody, knock, str(door)], capture_output=True, text=True, check=False, timeout=10)
    assert "PermissionError" in done.stderr


def test_an_upgraded_program_replaces_the_data_plane_on_its_device(three: Any, wait: Any) -> None:
    alice, bob, _ = three
    pid, link = bob.status["pid"], bob.run("ip", "-o", "link", "show", "kairos0")
    bob.kill()
    bob.start(program="upgraded")
    assert bob.status["pid"] != pid
    assert not runs(pid)
    assert bob.run("ip", "-o", "link", "show", "kairos0") == link
    alice.reaches(bob)


def test_a_data_plane_that_ended_without_an_agent_is_no_hindrance(three: Any, wait: Any) -> None:
    alice, bob, _ = three
    pid = bob.status["pid"]
    bob.kill()
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not runs(pid), 3, "the data plane ends")
    assert not bob.has_interface()
    bob.start()
    alice.reaches(bob)
    pid = bob.status["pid"]
    bob.kill()
    bob.run("ip", "link", "delete", "kairos0")
    wait(lambda: not runs(pid), 3, "the data plane ends with its device")
    bob.start()
    alice.reaches(bob)
