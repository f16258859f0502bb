"""A lab: namespaces on a bridge in a namespace of its own, a VPN node in each. All of it goes away."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Return the condition's value as soon as it is true; fail when it is not in time."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.05)
    return value


class Machine:
    """A namespace with one interface in the LAN, and the node that runs there."""

    def __init__(self, lab: Lab, number: int) -> None:
        self.lab, self.number = lab, number
        self.namespace = f"{lab.prefix}-{number}"
        self.underlay, self.address = f"192.0.2.{number}", f"10.1.0.{number}"
        self.process: subprocess.Popen[bytes] | None = None
        self.wrapper: tuple[str, ...] = ()
        """A program that starts the node's, in another namespace for one thing or another."""
        self.environment: dict[str, str] = {}

    def run(self, *command: str, check: bool = True) -> str:
        return run("ip", "netns", "exec", self.namespace, *command, check=check)

    def python(self, source: str, *arguments: str) -> str:
        return self.run(sys.executable, "-c", source, *arguments)

    def start(self, **settings: Any) -> None:
        """Start the node and wait until it is attached."""
        self.status_file.unlink(missing_ok=True)
        command = [sys.executable, str(HERE / "node.py"), str(self.lab.directory), str(self.number)]
        options = [self.underlay, json.dumps(settings)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *self.wrapper, *command, *options],
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
            )
        wait(lambda: self.status_file.exists() or self.process.poll() is not None, 20, "attached")
        assert self.process.poll() is None, self.log.read_text()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)
        self.process = None

    def cut_power(self) -> None:
        """End the agent, and the data plane that would outlive it."""
        dataplane = self.status["pid"]
        self.kill()
        os.kill(dataplane, signal.SIGKILL)

    @property
    def log(self) -> Path:
        return self.lab.directory / f"{self.number}.log"

    @property
    def status_file(self) -> Path:
        return self.lab.directory / f"{self.number}.status"

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.status_file.read_text())
        return status

    @property
    def entry(self) -> dict[str, Any]:
        document = json.loads((self.lab.directory / f"{self.number}.json").read_text())
        entry: dict[str, Any] = document["vpn"]
        return entry

    def way_to(self, other: Machine) -> dict[str, Any]:
        """Return what the data plane says of a peer: endpoint, path, mtu."""
        way: dict[str, Any] = self.status["peers"].get(other.entry["key"], {})
        return way

    def drops(self, name: str) -> int:
        return int(self.status["drops"].get(name, 0))

    def has_interface(self, name: str = "kairos0") -> bool:
        return name in self.run("ip", "-br", "link")

    def pings(self, other: Any, *options: str) -> bool:
        """Say whether one ping is answered within a second; with options, whether none is lost."""
        return " 0% packet loss" in self.run("ping", "-n", "-W1", *(options or ("-c1",)), other.address, check=False)

    def reaches(self, other: Any, seconds: float = 5.0) -> None:
        wait(lambda: self.pings(other), seconds, f"{self.namespace} pings {other.namespace}")


class Lab:
    """The machines, and the switch that joins them."""

    def __init__(self) -> None:
        self.prefix = f"kvpn{secrets.token_hex(3)}"
        self.switch = f"{self.prefix}-sw"
        self.directory = Path(tempfile.mkdtemp(prefix=self.prefix))
        self.machines: list[Machine] = []
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "add", "lan", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "lan", "up")

    def add(self, mtu: int = 1500) -> Machine:
        machine = Machine(self, len(self.machines) + 1)
        self.machines.append(machine)
        port, namespace = f"p{machine.number}", machine.namespace
        run("ip", "netns", "add", namespace)
        run("ip", "-n", self.switch, "link", "add", port, "mtu", str(mtu), "type", "veth",
            "peer", "name", "eth0", "mtu", str(mtu), "netns", namespace)  # fmt: skip
        run("ip", "-n", self.switch, "link", "set", port, "master", "lan", "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        run("ip", "-n", namespace, "addr", "add", f"{machine.underlay}/24", "dev", "eth0")
        run("ip", "-n", namespace, "link", "set", "eth0", "up")
        return machine

    def close(self) -> None:
        for machine in self.machines:
            if machine.process is not None:
                machine.kill()
            for pid in run("ip", "netns", "pids", machine.namespace, check=False).split():
                with suppress(ProcessLookupError):  # a data plane outlives a killed node for a while
                    os.kill(int(pid), signal.SIGKILL)
        for name in (*(machine.namespace for machine in self.machines), self.switch):
            run("ip", "netns", "delete", name, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


@pytest.fixture(name="wait")
def wait_fixture() -> Callable[..., Any]:
    return wait


@pytest.fixture(name="run")
def run_fixture() -> Callable[..., str]:
    return run


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a Python program in the namespace of a machine; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(machine: Any, source: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = ["ip", "netns", "exec", machine.namespace, sys.executable, "-c", source, *arguments]
        started.append(subprocess.Popen(command))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(10)


TALK = """
import hashlib, socket, sys, time
mine, other, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
tcp = socket.create_connection((other, 5000), 10)
sent, end = hashlib.blake2s(), time.monotonic() + seconds
while time.monotonic() < end:
    block = sent.digest() * 500
    sent.update(block)
    tcp.sendall(block)
    time.sleep(0.005)
tcp.shutdown(socket.SHUT_WR)
answer = tcp.makefile("rb").read()
assert answer == sent.digest(), "what came was not what was sent"
"""
LISTEN = """
import hashlib, socket
server = socket.create_server(("0.0.0.0", 5000))
tcp, _ = server.accept()
received = hashlib.blake2s()
while block := tcp.recv(1 << 16):
    received.update(block)
tcp.sendall(received.digest())
"""


@pytest.fixture
def talk(start: Any) -> Callable[..., subprocess.Popen[bytes]]:
    """Have a machine send another one a stream for some seconds; it ends with 0 when all came as it was sent."""

    def talk(one: Machine, other: Machine, seconds: float) -> subprocess.Popen[bytes]:
        start(other, LISTEN)
        wait(lambda: ":5000" in other.run("ss", "-tln"), 5, "listening")
        talker: subprocess.Popen[bytes] = start(one, TALK, one.address, other.address, str(seconds))
        return talker

    return talk


@pytest.fixture
def lab() -> Iterator[Lab]:
    """An empty lab. Needs root, as the VPN itself does."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces and TUN devices need root")
    lab = Lab()
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def three(lab: Lab) -> list[Machine]:
    """Three nodes that ping each other."""
    machines = [lab.add() for _ in range(3)]
    for machine in machines:
        machine.start()
    for one in machines:
        for other in machines:
            if one is not other:
                one.reaches(other)
    return machines
