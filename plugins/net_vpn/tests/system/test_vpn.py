"""The VPN with real devices, sockets and processes: three namespaces on a bridge."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kairos_core.protocol.identity import Identity
from kairos_core.testing.networks import SharedLedger

pytestmark = pytest.mark.system

SEND = """
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for datagram in sys.argv[3:]:
    udp.sendto(bytes.fromhex(datagram), (sys.argv[1], int(sys.argv[2])))
"""
CATCH = """
import socket, sys
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
tap.bind((sys.argv[1], 0))
tap.settimeout(10)
print("ready", flush=True)
while True:
    frame = tap.recv(2048)
    if frame[23] == 17 and int.from_bytes(frame[36:38]) == int(sys.argv[2]) and frame[42] == 4:
        print(frame[42:14 + int.from_bytes(frame[16:18])].hex())
        break
"""


def test_every_pair_pings_and_large_packets_pass(three: Any) -> None:
    for one in three:
        for other in three:
            if one is not other:
                assert one.pings(other, "-c3", "-i0.2")
                assert one.pings(other, "-c1", "-s1392", "-Mdo")  # 1392 + 28 = 1420, the whole MTU
        assert {name for name in one.status["drops"] if "unseal" in name or "bad_mac" in name} == set()


def test_a_mesh_stands_within_four_seconds_of_the_last_start(lab: Any) -> None:
    machines = [lab.add() for _ in range(3)]
    for machine in machines:
        machine.start()
    started = time.monotonic()
    for one in machines:
        for other in machines:
            if one is not other:
                one.reaches(other)
    assert time.monotonic() - started < 4


def test_a_forged_source_address_is_dropped_and_counted(three: Any, wait: Any) -> None:
    eve, bob, _ = three
    eve.run("ip", "addr", "add", "10.1.0.77/32", "dev", "lo")
    eve.run("ping", "-n", "-c3", "-i0.2", "-W1", "-I", "10.1.0.77", bob.address, check=False)
    wait(lambda: bob.drops("vpn_source_mismatch") == 3, 5, "three packets dropped")
    assert eve.pings(bob)


def test_hostile_datagrams_are_dropped_by_name_and_crash_nothing(three: Any, wait: Any) -> None:
    alice, bob, eve = three
    port, before = str(bob.entry["port"]), bob.status["pid"]
    catcher = subprocess.Popen(
        ["ip", "netns", "exec", eve.lab.switch, sys.executable, "-c", CATCH, f"p{bob.number}", port],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert catcher.stdout is not None
    assert catcher.stdout.readline() == "ready\n"
    assert alice.pings(bob)
    caught = catcher.communicate(timeout=20)[0].strip()
    flipped = caught[:-2] + f"{int(caught[-2:], 16) ^ 1:02x}"
    fresh_counter = caught[:16] + "ff" + caught[18:]
    hostile = ["", "01", "04000000", "09000000" + "00" * 60, "03000000" + "00" * 60, "01000000" + "00" * 144]
    eve.python(SEND, bob.underlay, port, *hostile, caught, flipped, fresh_counter, caught[:40])
    expected = {
        "vpn_truncated": 4,
        "vpn_unknown_kind": 1,
        "vpn_unknown_index": 1,
        "vpn_bad_mac": 1,
        "vpn_replayed": 2,
        "vpn_unseal": 1,
    }
    wait(lambda: {name: bob.drops(name) for name in expected} == expected, 5, f"counted ({bob.status})")
    random = [os.urandom(size).hex() for size in range(0, 600, 7)]
    eve.python(SEND, bob.underlay, port, *random)
    assert alice.pings(bob)
    assert bob.status["pid"] == before


def test_a_killed_data_plane_is_back_within_five_seconds_on_the_same_device_and_port(three: Any, wait: Any) -> None:
    alice, bob, carol = three
    for victim, other in ((bob, alice), (alice, bob), (carol, alice)):
        device, port, pid = (
            victim.run("ip", "addr", "show", "kairos0"),
            victim.entry["port"],
            victim.status["pid"],
        )
        os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        wait(lambda victim=victim, pid=pid: victim.status["pid"] not in (pid, None), 5, "a new process")
        other.reaches(victim, 5)
        victim.reaches(other, 5)
        assert time.monotonic() - started < 5
        assert victim.run("ip", "addr", "show", "kairos0") == device
        assert victim.entry["port"] == port
        wait(lambda victim=victim: victim.drops("vpn_dataplane_died") == 1, 2, "counted")


def test_a_killed_agent_that_stays_away_comes_back_on_its_port(three: Any, wait: Any) -> None:
    alice, bob, _ = three
    bob.stop()
    bob.start(timing={"linger": 0.5})
    port, pid = bob.entry["port"], bob.status["pid"]
    bob.kill()
    wait(lambda: not Path(f"/proc/{pid}").exists(), 3, "the data plane ends")
    wait(lambda: not bob.has_interface(), 3, "the device vanishes")
    bob.start()
    alice.reaches(bob, 5)
    assert bob.entry["port"] == port


def test_a_deleted_device_is_made_again(three: Any, wait: Any) -> None:
    alice, bob, _ = three
    bob.run("ip", "link", "delete", "kairos0")
    wait(bob.has_interface, 5, "a new device")
    alice.reaches(bob, 5)


def test_an_orderly_end_leaves_nothing_and_takes_the_port_back(three: Any) -> None:
    _, bob, _ = three
    pid, port = bob.status["pid"], bob.entry["port"]
    bob.stop()
    assert not bob.has_interface()
    assert not Path(f"/proc/{pid}").exists()
    assert set(bob.entry) == {"key", "last_port"}
    assert "10.1.0" not in bob.run("ip", "route")
    bob.start()
    assert bob.entry["port"] == port


def test_sessions_are_renewed_under_way_without_losing_a_packet(lab: Any, wait: Any) -> None:
    quick = {"rekey_after": 1.0, "reject_after": 2.0, "keepalive": 0.3, "rekey_timeout": 0.2, "flood": 0.001}
    alice, bob = lab.add(), lab.add()
    for machine in (alice, bob):
        machine.start(timing=quick)
    alice.reaches(bob)
    assert alice.pings(bob, "-c60", "-i0.1")
    wait(lambda: alice.status["peers"], 2, "statistics")
    (peer,) = alice.status["peers"].values()
    assert peer["handshake"] < 2.5


def test_a_stranger_with_another_token_gets_nothing(lab: Any, wait: Any) -> None:
    alice, bob, eve = (lab.add() for _ in range(3))
    alice.start()
    bob.start()
    eve.start(token="another token")
    alice.reaches(bob)
    assert not eve.pings(alice)
    assert not alice.pings(eve)
    wait(lambda: alice.drops("vpn_unseal") + eve.drops("vpn_unseal") > 0, 5, "counted")


def test_a_node_that_changes_its_lan_address_is_followed(three: Any, wait: Any) -> None:
    alice, bob, carol = three
    bob.run("ip", "addr", "add", "192.0.2.200/24", "dev", "eth0")
    bob.run("ip", "addr", "del", f"{bob.underlay}/24", "dev", "eth0")
    bob.run("ip", "addr", "add", "192.0.2.200/24", "dev", "eth0", check=False)
    for other in (alice, carol):
        bob.reaches(other, 5)
        other.reaches(bob, 5)
        key = bob.entry["key"]
        at = f"192.0.2.200:{bob.entry['port']}"
        wait(
            lambda other=other, key=key, at=at: other.status["peers"].get(key, {}).get("endpoint") == at, 5, "followed"
        )
    wait(lambda: bob.entry["hosts"] == ["192.0.2.200"], 5, "published")


_NOTICE = """
import asyncio, subprocess, time
from kairos_net_vpn.moves import AddressChanges
async def main():
    changes = AddressChanges()
    loop = asyncio.get_running_loop()
    loop.call_later(0.1, lambda: subprocess.Popen(["ip", "addr", "add", "192.0.2.99/24", "dev", "eth0"]).wait())
    began = time.monotonic()
    await changes.wait(20)
    changes.close()
    print(time.monotonic() - began)
asyncio.run(main())
"""


def test_the_kernel_tells_when_an_address_changes(lab: Any) -> None:
    assert 0.1 < float(lab.add().python(_NOTICE)) < 3


def test_a_narrow_lan_gets_a_narrow_tunnel(lab: Any) -> None:
    alice, bob = lab.add(mtu=1450), lab.add(mtu=1450)
    for machine in (alice, bob):
        machine.start()
        assert "mtu 1370" in machine.run("ip", "link", "show", "kairos0")
    alice.reaches(bob)
    assert alice.pings(bob, "-c1", "-s1342", "-Mdo")


def test_a_taken_interface_name_is_said_with_advice(lab: Any) -> None:
    alice = lab.add()
    alice.run("ip", "link", "add", "kairos0", "type", "bridge")
    with pytest.raises(AssertionError) as failed:
        alice.start()
    assert "an interface of this name exists" in str(failed.value)
    assert "p2p.vpn.interface" in str(failed.value)


def test_no_secret_is_in_arguments_environment_or_log(three: Any) -> None:
    for machine in three:
        identity = Identity(bytes([machine.number]) * 32)
        secrets = [identity.exchange_key("vpn").private_bytes_raw(), SharedLedger().secret("vpn psk")]
        process = Path(f"/proc/{machine.status['pid']}")
        shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes() + machine.log.read_bytes()
        for secret in secrets:
            for form in (secret, secret.hex().encode(), base64.b64encode(secret)):
                assert form not in shown


# -- what this machine has against it


def test_a_pool_that_is_the_lan_is_said_with_advice(lab: Any) -> None:
    alice = lab.add()
    alice.run("ip", "addr", "add", "10.1.7.7/16", "dev", "eth0")
    with pytest.raises(AssertionError) as failed:
        alice.start()
    assert "overlap the network 10.1.0.0/16 of eth0" in str(failed.value)
    assert "Set another p2p.vpn.subnet" in str(failed.value)
    assert not alice.has_interface()


def test_an_address_that_this_machine_has_already_is_said_with_advice(lab: Any) -> None:
    alice = lab.add()
    alice.run("ip", "addr", "add", f"{alice.address}/32", "dev", "lo")
    with pytest.raises(AssertionError) as failed:
        alice.start()
    assert f"{alice.address} is on lo of this machine already. Remove it there, or set another" in str(failed.value)
    assert not alice.has_interface()


def test_a_taken_port_is_said_with_advice(lab: Any, start: Any, wait: Any) -> None:
    alice = lab.add()
    listen = "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 7007)); s.recv(1)"
    start(alice, listen)
    wait(lambda: ":7007" in alice.run("ss", "-uln"), 5, "the port is taken")
    with pytest.raises(AssertionError) as failed:
        alice.start(port=7007)
    assert "cannot listen on UDP port 7007" in str(failed.value)
    assert "p2p.vpn.port" in str(failed.value)


def test_without_the_right_to_make_a_tunnel_the_error_says_which(lab: Any) -> None:
    alice = lab.add()
    without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    command = [sys.executable, str(Path(__file__).parent / "node.py"), str(lab.directory), "1", alice.underlay, "{}"]
    done = subprocess.run(
        ["ip", "netns", "exec", alice.namespace, *without, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode != 0
    assert "grant CAP_NET_ADMIN, or set p2p.vpn.create: false" in done.stderr
