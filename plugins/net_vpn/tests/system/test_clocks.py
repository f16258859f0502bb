"""Clocks that jump under running processes: a machine that slept, a wall clock that is set."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

QUICK = {"rekey_after": 1.0, "reject_after": 2.0, "keepalive": 0.3, "rekey_timeout": 0.2, "flood": 0.001}
YEAR = 365 * 86400.0


class Clocks:
    """What the processes of a machine take for the time; see clocks/sitecustomize.py."""

    def __init__(self, machine: Any) -> None:
        self._file = machine.lab.directory / f"{machine.number}.clocks"
        self.set()
        machine.environment = {
            "PYTHONPATH": str(Path(__file__).parent / "clocks"),
            "SHIFTED_CLOCKS": str(self._file),
        }

    def set(self, slept: float = 0.0, wall: float = 0.0) -> None:
        with self._file.open("r+b" if self._file.exists() else "wb") as file:  # in place: the processes have it mapped
            file.write(struct.pack("dd", slept, wall))


def age(one: Any, other: Any) -> float:
    """Return the seconds since the last handshake of two machines; 0 while nothing is known."""
    return one.way_to(other).get("handshake") or 0.0


def test_machines_that_have_slept_for_an_hour_talk_within_two_seconds(lab: Any, wait: Any) -> None:
    alice, bob = lab.add(), lab.add()
    clocks = [Clocks(machine) for machine in (alice, bob)]
    for machine in (alice, bob):
        machine.start()
    alice.reaches(bob)
    pids = [machine.status["pid"] for machine in (alice, bob)]
    wait(lambda: age(alice, bob) > 4, 6, "a session that is not new")
    for each in clocks:
        each.set(slept=3600.0)
    alice.reaches(bob, 2)
    bob.reaches(alice, 1)
    wait(lambda: 0 < age(alice, bob) < 4, 1, "a new session, since the old one is an hour old")
    assert alice.pings(bob, "-c10", "-i0.1")
    assert [machine.status["pid"] for machine in (alice, bob)] == pids


@pytest.mark.parametrize("jump", [-YEAR, YEAR], ids=["back", "forth"])
def test_a_wall_clock_that_is_set_by_a_year_costs_no_packet(lab: Any, wait: Any, jump: float) -> None:
    alice, bob = lab.add(), lab.add()
    clocks = Clocks(bob)
    for machine in (alice, bob):
        machine.start(timing=QUICK)
    alice.reaches(bob)
    for wall in (jump, 0.0):
        clocks.set(wall=wall)
        assert alice.pings(bob, "-c40", "-i0.1")  # through three handshakes
    wait(lambda: 0 < age(alice, bob) < 2.5, 5, "sessions are renewed")


def test_a_relay_that_has_slept_relays_without_new_sessions(lab: Any, wait: Any, run: Any, talk: Any) -> None:
    """Its two kernel clocks disagree from then on: by one of them everything is long overdue."""
    alice, bob, carol = (lab.add() for _ in range(3))
    carol.wrapper = ("unshare", "--time", "--boottime", "1000000")
    for machine in (alice, bob, carol):
        machine.start()
    for one in (alice, bob):
        one.reaches(carol)
    wall = "table ip wall {{ chain in {{ type filter hook input priority 0; ip saddr {} drop; }}; }}"
    for one, other in ((alice, bob), (bob, alice)):
        run("ip", "netns", "exec", one.namespace, "nft", wall.format(other.underlay))
    alice.reaches(bob, 10)
    assert talk(alice, bob, 5).wait(30) == 0
    assert age(carol, alice) > 5
    assert age(carol, bob) > 5
    assert alice.drops("vpn_flooded") + bob.drops("vpn_flooded") + carol.drops("vpn_flooded") == 0
