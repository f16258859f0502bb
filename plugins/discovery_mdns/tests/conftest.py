"""Network namespaces for the tests of discovery on a LAN."""

import asyncio
import ctypes
import os
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import Any

import pytest

_CLONE_NEWNET = 0x40000000


class Machine:
    """A network namespace that stands for a machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> str:
        return run("ip", "-n", self.name, *arguments)

    def cut(self) -> None:
        """Let no frame in. Nothing tells the machine: its own cable stays in."""
        self._nft("table netdev cut { chain c { type filter hook ingress device eth0 priority 0; policy drop; }; }")

    def mend(self) -> None:
        """Let frames in again."""
        self._nft("delete table netdev cut")

    def _nft(self, rules: str) -> None:
        run("ip", "netns", "exec", self.name, "nft", rules)

    def start(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> "Future[Any]":
        """Run a coroutine in a thread of its own that is in this namespace."""
        result: Future[Any] = Future()

        def enter() -> None:
            try:
                handle = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
                assert ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET) == 0, ctypes.get_errno()
                os.close(handle)
                result.set_result(asyncio.run(main()))
            except BaseException as error:
                result.set_exception(error)

        Thread(target=enter, name=self.name).start()
        return result

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


def run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    """Two machines, each with an unconfigured `eth0`, on one wire."""
    made: list[Machine] = []
    try:
        for letter in "ab":
            made.append(Machine(f"kmdns{os.getpid()}{letter}"))
        made[0].ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", made[1].name)
        yield made
    finally:
        for machine in made:
            machine.remove()


@pytest.fixture
def lan(machines: list[Machine]) -> list[Machine]:
    """Two machines on one wire, with IPv4 (10.77.0.1, 10.77.0.2) and IPv6 link-local addresses."""
    for number, machine in enumerate(machines, 1):
        machine.ip("addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
        machine.ip("link", "set", "eth0", "up")
    return machines
