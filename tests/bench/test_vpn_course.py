"""The cable of the benchmarks does what it says: loses, keeps packets small, hands out other addresses."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kairos_core.testing.lab import Lab, LabError

pytestmark = pytest.mark.system
BENCH = Path(__file__).parents[2] / "bench"

INITIATION = "import socket; socket.socket(2, 2).sendto(bytes([1, 0, 0, 0]).ljust(148), ('{}', 9))"
ANSWER = "import socket; socket.socket(2, 2).sendto(bytes([2, 0, 0, 0]).ljust(92), ('{}', 9))"
NO_ANSWER = "import socket; socket.socket(2, 2).sendto(bytes([4, 0, 0, 0]).ljust(92), ('{}', 9))"


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.syspath_prepend(str(BENCH))
    from tunnels import course

    async with Lab() as lab:
        yield SimpleNamespace(course=course, lab=lab)


async def lost_percent(track: Any, count: int = 500) -> int:
    words = ("ping", "-n", "-q", "-i", "0.002", "-c", str(count), "-W", "1", track.two.ipv4)
    output = await track.one.run(*words, check=False)
    found = re.search(r"(\d+)(?:\.\d+)?% packet loss", output.stdout)
    assert found, output
    return int(found[1])


async def offloads(machine: Any) -> dict[str, str]:
    shown = (await machine.run("ethtool", "-k", "eth0")).stdout
    return dict(re.findall(r"^\s*([\w-]+): (on|off)", shown, flags=re.MULTILINE))


async def test_frames_are_lost_both_ways_at_the_share_that_was_asked_for(bench: Any) -> None:
    track = await bench.course.lay(bench.lab, "wire", lossy=True)
    assert await lost_percent(track) == 0
    await bench.course.lose(track, 20)
    assert 28 < await lost_percent(track) < 44, "0.2 each way is 0.36"
    await bench.course.lose(track, 0)
    assert await lost_percent(track) == 0


async def test_answered_handshakes_are_counted_and_nothing_else(bench: Any) -> None:
    track = await bench.course.lay(bench.lab, "wire", lossy=True)
    await bench.course.lose(track, 0)
    for text in (INITIATION, ANSWER, NO_ANSWER, ANSWER):
        await track.two.run("python3", "-c", text.format(track.one.ipv4))
    assert await bench.course.answers(track) == 2


async def test_without_loss_the_machines_are_joined_by_one_cable(bench: Any) -> None:
    track = await bench.course.lay(bench.lab, "default", lossy=False)
    assert await lost_percent(track, 3) == 0
    assert (await track.one.run("ping", "-n", "-c1", "-W3", track.two.ipv6)).code == 0
    assert (await offloads(track.one))["tcp-segmentation-offload"] == "on"
    with pytest.raises(LabError, match="lossy=True"):
        await bench.course.lose(track, 1)


async def test_on_the_wire_profile_no_buffer_is_handed_over_whole(bench: Any) -> None:
    track = await bench.course.lay(bench.lab, "wire", lossy=False)
    for machine in track.machines:
        found = await offloads(machine)
        wanted = ("tcp-segmentation-offload", "generic-segmentation-offload", "tx-udp-segmentation")
        assert {found[name] for name in wanted} == {"off"}
        assert found["generic-receive-offload"] == "on"


async def test_a_machine_that_roams_is_reached_at_its_new_address_only(bench: Any) -> None:
    track = await bench.course.lay(bench.lab, "wire", lossy=True)
    await bench.course.roam(track.two, 2, 102)
    assert (await track.one.run("ping", "-n", "-c1", "-W1", "192.168.77.102")).code == 0
    assert (await track.one.run("ping", "-n", "-c1", "-W1", track.two.ipv4, check=False)).code != 0
