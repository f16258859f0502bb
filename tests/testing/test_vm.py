"""The parts of virtual machines that need none: what is asked of the host, and the way to talk with QEMU."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kairos_core.testing.lab import LabError
from kairos_core.testing.vm import requirements
from kairos_core.testing.vm.cable import Cable
from kairos_core.testing.vm.channel import Channel
from kairos_core.testing.vm.requirements import check_requirements, has_kvm

Reply = Callable[[dict[str, Any]], bytes]


@asynccontextmanager
async def served(path: Path, reply: Reply) -> AsyncIterator[Channel]:
    """A channel to a server that answers each request with these bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        writer.write(b'{"QMP": {"version": {}}}\n')
        while line := await reader.readline():
            writer.write(reply(json.loads(line.lstrip(b"\xff"))))
        writer.close()
        await writer.wait_closed()

    connections: list[asyncio.Task[Any] | None] = []
    server = await asyncio.start_unix_server(serve, path)
    channel = Channel(path)
    await channel.open()
    try:
        yield channel
    finally:
        channel.close()
        await asyncio.gather(*[connection for connection in connections if connection is not None])
        server.close()
        await server.wait_closed()


def line(**answer: Any) -> bytes:
    return json.dumps(answer).encode() + b"\n"


async def test_an_answer_is_found_behind_greetings_and_events(tmp_path: Path) -> None:
    async with served(tmp_path / "monitor", lambda _: line(event="RESET") + line(**{"return": {"a": 1}})) as channel:
        assert await channel.ask("query") == {"a": 1}


async def test_a_refusal_says_what_was_asked_and_why(tmp_path: Path) -> None:
    refusal = line(error={"class": "CommandNotFound", "desc": "there is no such command"})
    async with served(tmp_path / "monitor", lambda _: refusal) as channel:
        with pytest.raises(LabError, match="query: there is no such command"):
            await channel.ask("query")


async def test_requests_at_the_same_time_get_their_own_answers(tmp_path: Path) -> None:
    async with served(tmp_path / "guest", lambda asked: line(**{"return": asked["arguments"]["n"]})) as channel:
        assert await asyncio.gather(*[channel.ask("echo", n=number) for number in range(20)]) == list(range(20))


async def test_synchronising_skips_what_a_reset_cut_off_and_what_others_asked(tmp_path: Path) -> None:
    def reply(asked: dict[str, Any]) -> bytes:
        stale = b'{"return": {"pid": 1' + b"\n" + line(**{"return": 7})
        return stale + b"\xff" + line(**{"return": asked["arguments"]["id"]})

    async with served(tmp_path / "guest", reply) as channel:
        await channel.synchronise(5)


async def test_silence_is_an_error_after_its_time(tmp_path: Path) -> None:
    async with served(tmp_path / "guest", lambda _: b"") as channel:
        with pytest.raises(LabError, match=r"query: no answer within 0\.05 s"):
            await channel.ask("query", timeout=0.05)
        with pytest.raises(LabError, match=r"does not answer within 0\.05 s"):
            await channel.synchronise(0.05)


async def test_a_machine_that_is_off_is_named(tmp_path: Path) -> None:
    channel = Channel(tmp_path / "guest")
    with pytest.raises(LabError, match="no connection with guest"):
        await channel.open()
    with pytest.raises(LabError, match=f"{tmp_path.name} is switched off"):
        await channel.ask("query")


@pytest.mark.parametrize(("flags", "has"), [("fpu vmx sse2", os.access("/dev/kvm", os.W_OK)), ("fpu sse2", False)])
def test_a_device_alone_is_no_kvm(tmp_path: Path, flags: str, has: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nvmx flags\t: x\nflags\t\t: {flags}\n")
    assert has_kvm(cpuinfo) is has


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 0)
    monkeypatch.setattr(requirements.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(requirements.shutil, "which", lambda program: None if "qemu" in program else f"/bin/{program}")
    with pytest.raises(
        LabError, match=r"qemu-system-x86_64, qemu-img\. Install them: apt-get install qemu-system-x86 "
    ):
        check_requirements()


def test_others_than_root_are_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(requirements.platform, "machine", lambda: "x86_64")
    with pytest.raises(LabError, match=r"sudo \./run test vm"):
        check_requirements()


def test_a_machine_is_told_of_its_cable_in_the_words_that_it_reads() -> None:
    script = (Path(requirements.__file__).with_name("root") / "usr/local/sbin/lab-link").read_text()
    words = dict(
        word.removeprefix("lab.").split("=") for word in Cable(delay_ms=20, jitter_ms=5, loss=1).words().split()
    )
    assert words == {"delay": "20ms", "jitter": "5ms", "loss": "1%"}
    assert all(f"$(value {word})" in script for word in words)


@pytest.mark.parametrize(
    ("cable", "said"),
    [
        ({"jitter_ms": 1}, "a delay of 0 ms give or take 1 ms"),
        ({"delay_ms": 20, "jitter_ms": -1}, "give or take -1 ms"),
        ({"delay_ms": -1}, "a delay of -1 ms"),
        ({"loss": 101}, "cannot lose 101 %"),
        ({"loss": -1}, "cannot lose -1 %"),
    ],
)
def test_a_cable_that_cannot_be_is_refused(cable: dict[str, int], said: str) -> None:
    with pytest.raises(LabError, match=said):
        Cable(**cable)
