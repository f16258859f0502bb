"""The lab keeps its promises: machines share nothing, faults do what they say, and nothing is ever left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kairos_core.testing.lab import Lab, LabError, Machine

pytestmark = pytest.mark.system
HERE = Path(__file__).parent

# Answers each line's port probe on multicast: what mDNS needs from the bridge.
LISTENER = """
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 5353))
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
             socket.inet_aton("224.0.0.251") + socket.inet_aton("0.0.0.0"))
print("listening", flush=True)
print("from", s.recvfrom(100)[1][0], flush=True)
"""
SPEAKER = """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("224.0.0.251", 5353))
"""


async def answers(source: Machine, address: str) -> bool:
    """Waits 2 s: after a fault the kernel asks for the hardware address only once a second."""
    return (await source.run("ping", "-n", "-c1", "-W2", address, check=False)).code == 0


async def is_cut(source: Machine, address: str) -> bool:
    return (await source.run("ping", "-n", "-c1", "-W0.4", address, check=False)).code != 0


async def two(lab: Lab) -> tuple[Machine, Machine]:
    return await lab.add("one"), await lab.add("two")


async def eventually(holds, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)


async def test_machines_reach_each_other_by_ipv4_and_ipv6_at_once(lab: Lab) -> None:
    one, two_ = await two(lab)
    assert await answers(one, two_.ipv4)
    assert await answers(two_, one.ipv6)
    assert await answers(one, f"fe80::{two_.link.host:x}%eth0")


async def test_multicast_crosses_the_bridge(lab: Lab) -> None:
    one, two_ = await two(lab)
    listener = await one.start(sys.executable, "-c", LISTENER, log="listener")
    await eventually(lambda: "listening" in listener.last_lines())
    await two_.run(sys.executable, "-c", SPEAKER)
    assert await listener.wait(timeout=5) == 0
    assert f"from {two_.ipv4}" in listener.last_lines()


async def test_machines_have_nothing_in_common_but_the_code(lab: Lab) -> None:
    one, two_ = await two(lab)
    for inside in ("/etc/kairos", "/etc/rancher", "/var/lib/kairos", "/var/lib/rancher", "/var/log", "/run", "/etc"):
        await one.run("touch", f"{inside}/kairos-lab-test")
        assert (await two_.run("test", "-e", f"{inside}/kairos-lab-test", check=False)).code == 1
        assert not Path(inside, "kairos-lab-test").exists()
    identities = [(await machine.run("cat", "/etc/machine-id")).stdout for machine in (one, two_)]
    assert len(set(identities)) == 2
    assert (await one.run("hostname")).stdout == "one\n"
    assert (await one.run("cat", "/etc/hostname")).stdout == "one\n"


async def test_a_machine_sees_only_its_own_processes_devices_and_sockets(lab: Lab) -> None:
    one, two_ = await two(lab)
    sleeper = await two_.start("sleep", "60")
    await sleeper.pid()
    processes = (await one.run("ps", "-eo", "args")).stdout
    assert "sleep" not in processes
    assert sorted((await one.run("ls", "/sys/class/net")).stdout.split()) == ["eth0", "lo"]
    assert (await one.run("test", "-d", "/run/systemd/system", check=False)).code == 1


async def test_nothing_of_the_caller_leaks_into_the_environment(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEVPNTOKEN", "leaked")
    one = await lab.add("one")
    assert "leaked" not in (await one.run("env")).stdout


async def test_temporary_files_go_with_the_machine(lab: Lab) -> None:
    one = await lab.add("one")
    made = (await one.run("mktemp")).stdout.strip()
    assert one.path(made).exists()
    assert not Path(made).exists()


async def test_the_host_gets_no_new_network_device(lab: Lab) -> None:
    before = sorted(os.listdir("/sys/class/net"))
    await two(lab)
    assert sorted(os.listdir("/sys/class/net")) == before


async def test_a_partition_cuts_both_ways_and_spares_the_others(lab: Lab) -> None:
    one, two_ = await two(lab)
    three = await lab.add("three")
    await lab.partition([one], [two_])
    assert await is_cut(one, two_.ipv4)
    assert await is_cut(two_, one.ipv6)
    assert await answers(one, three.ipv4)
    await lab.heal()
    assert await answers(one, two_.ipv4)
    assert await answers(two_, one.ipv6)


async def test_a_pulled_cable_loses_everything_and_keeps_the_addresses(lab: Lab) -> None:
    one, two_ = await two(lab)
    await one.link.down()
    assert await is_cut(two_, one.ipv4)
    assert one.ipv6 in (await one.run("ip", "-6", "address", "show", "eth0")).stdout
    await one.link.up()
    assert await answers(two_, one.ipv4)
    assert await answers(one, two_.ipv6)


async def test_loss_loses_about_the_share_it_was_told(lab: Lab) -> None:
    one, two_ = await two(lab)
    assert await answers(one, two_.ipv4)  # so that no address has to be resolved over the lossy link
    await two_.link.loss(40)
    output = await one.run("ping", "-n", "-q", "-c500", "-i0.002", "-W1", two_.ipv4, check=False)
    received = int(output.stdout.partition(" received")[0].split()[-1])
    # 500 draws at 60 %: 300 expected, standard deviation 11; six of them either way.
    assert 234 < received < 366
    await two_.link.loss(0)
    assert await answers(one, two_.ipv4)


async def test_a_power_cut_kills_everything_and_keeps_the_disk(lab: Lab) -> None:
    one, two_ = await two(lab)
    await one.run("sh", "-c", "echo kept >/var/lib/kairos/file; echo lost >/run/file")
    sleeper = await one.start("sleep", "60")
    pid = await sleeper.pid()
    await one.power_off()
    assert not Path(f"/proc/{pid}").exists()
    assert await is_cut(two_, one.ipv4)
    with pytest.raises(LabError, match="one is switched off"):
        await one.run("true")
    await one.power_on()
    assert (await one.run("cat", "/var/lib/kairos/file")).stdout == "kept\n"
    assert (await one.run("test", "-e", "/run/file", check=False)).code == 1
    assert await answers(two_, one.ipv4)


async def test_a_kill_reaches_the_program_and_not_its_children(lab: Lab) -> None:
    one = await lab.add("one")
    parent = await one.start("sh", "-c", "sleep 61 & echo $! >/run/child; wait")
    child = one.path("/run/child")
    await eventually(lambda: child.exists() and child.read_text().strip() != "")
    assert await parent.kill() == -signal.SIGKILL
    assert (await one.run("kill", "-0", child.read_text().strip())).code == 0


async def test_orphans_leave_no_zombies(lab: Lab) -> None:
    one = await lab.add("one")
    await one.run("sh", "-c", "(sleep 0.05 &) ; true")
    await asyncio.sleep(0.2)
    assert "Z" not in (await one.run("ps", "-eo", "stat")).stdout


async def test_a_failed_command_is_reported_with_what_it_said_and_without_its_arguments(lab: Lab) -> None:
    one = await lab.add("one")
    with pytest.raises(LabError, match=r"one: sh failed \(3\): broken") as caught:
        await one.run("sh", "-c", "echo broken >&2; exit 3", "secret-word")
    assert "secret-word" not in str(caught.value)
    with pytest.raises(LabError, match="did not end within"):
        await one.run("sleep", "60", timeout=0.2)


async def test_two_labs_run_beside_each_other(lab: Lab) -> None:
    one = await lab.add("one")
    async with Lab(1) as other:
        assert other.directory != lab.directory
        assert await answers(other.machines[0], other.machines[0].ipv4)
    assert not other.directory.exists()
    assert await answers(one, one.ipv4)


async def test_an_exception_takes_everything_down() -> None:
    lab, pids = Lab(2), []

    async def fails() -> None:
        async with lab:
            pids.extend(machine.pid for machine in lab.machines)
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await fails()
    assert len(pids) == 2
    assert not lab.directory.exists()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_nothing_outlives_a_lab_that_was_signalled(number: signal.Signals) -> None:
    inhabitant = HERE / "inhabited_lab.py"
    process = subprocess.Popen(
        [sys.executable, inhabitant], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    with process, process.stdout:
        made = json.loads(process.stdout.readline())
        assert all(Path(f"/proc/{pid}").exists() for pid in made["pids"])
        process.send_signal(number)
        process.wait(10)
    await eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in made["pids"]))
    await eventually(lambda: not Path(made["directory"]).exists())


async def test_a_sweep_removes_what_a_murdered_hub_left_and_spares_the_living(lab: Lab) -> None:
    dead = lab.directory.with_name(f"{lab.directory.name}-dead")
    dead.mkdir()
    (dead / "lock").touch()
    assert Lab.sweep() >= 1
    assert not dead.exists()
    assert lab.directory.exists()


def test_an_unprivileged_user_gets_a_lab_with_tunnels(tmp_path: Path) -> None:
    output = as_nobody(tmp_path, "chmod 0666 /dev/net/tun")
    assert output.returncode == 0, output.stderr
    assert json.loads(output.stdout)["directory"].startswith("/tmp/kairos-lab-")
    assert json.loads(output.stdout)["tunnel"] == "kairos0"


def test_an_unprivileged_user_without_a_tunnel_device_is_told_what_to_do(tmp_path: Path) -> None:
    output = as_nobody(tmp_path, "chmod 0600 /dev/net/tun")
    assert output.returncode == 1
    assert "may not be opened by user 65534" in output.stderr
    assert "chmod 0666 /dev/net/tun" in output.stderr


def test_an_unprivileged_user_without_user_namespaces_is_told_what_to_do(tmp_path: Path) -> None:
    output = as_nobody(tmp_path, "chmod 0666 /dev/net/tun; forbidding=yes")
    assert output.returncode == 1
    assert "allow user namespaces" in output.stderr


def as_nobody(tmp_path: Path, prepare: str) -> subprocess.CompletedProcess[str]:
    """Make a lab as a user without rights, in a mount namespace where that user may read the code."""
    script = HERE / "as_nobody.sh"
    command = ["unshare", "--mount", "sh", str(script), prepare, sys.base_prefix, sys.executable]
    return subprocess.run(
        [*command, str(HERE / "inhabited_lab.py"), "--once"],
        capture_output=True, text=True, timeout=60, check=False, cwd="/", stdin=subprocess.DEVNULL,
    )  # fmt: skip
