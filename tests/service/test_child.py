"""The supervisor without an init system, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kairos_core import Disk, Home, SecretStr, Service
from kairos_core.service.child import Child

pytestmark = pytest.mark.system
HOME = Home("/var/lib/kairos/engine_example", "/etc/example")

AGENT = """
import asyncio, sys
from pathlib import Path
from kairos_core import Home
from kairos_core.service.child import Child
async def agent():
    await Child(Home("/var/lib/kairos/engine_example", "/etc/example"), Path(sys.argv[1])).start("example")
    print("started", flush=True)
    await asyncio.sleep(60)
asyncio.run(agent())
"""


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    supervisor = Child(HOME, tmp_path, back_off=(0.05,))
    yield supervisor
    await supervisor.stop("example")


def _install(root: Path, supervisor: Child, script: str) -> None:
    service = Service("example", ("-c", script), {"TOKEN": SecretStr("a secret $value")})
    Disk(HOME, root).converge(supervisor.files(service, "/bin/sh"))


def _pid(root: Path) -> int:
    return int((root / "run/kairos/example.pid").read_text().split()[0])


async def _until(root: Path, words: str, times: int = 1) -> str:
    """Wait for words in the log. A log can only be asked again and again."""
    async with asyncio.timeout(10):
        while (text := _log(root)).count(words) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return text


def _log(root: Path) -> str:
    file = root / "var/log/example.log"
    return file.read_text() if file.exists() else ""


async def test_the_environment_comes_from_the_file_and_the_output_goes_to_the_log(tmp_path: Path, child: Child) -> None:
    _install(tmp_path, child, 'echo "token: $TOKEN"; exec sleep 60')
    await child.start("example")
    await _until(tmp_path, "token: a secret $value")
    assert await child.is_running("example")
    assert (tmp_path / "var/log/example.log").stat().st_mode & 0o777 == 0o600


async def test_it_is_in_a_session_of_its_own(tmp_path: Path, child: Child) -> None:
    _install(tmp_path, child, "echo up; exec sleep 60")
    await child.start("example")
    await _until(tmp_path, "up")
    assert os.getsid(_pid(tmp_path)) == _pid(tmp_path)


async def test_what_ends_is_started_again(tmp_path: Path, child: Child) -> None:
    _install(tmp_path, child, "echo came and went")
    await child.start("example")
    await _until(tmp_path, "came and went", times=3)


async def test_to_start_twice_runs_one(tmp_path: Path, child: Child) -> None:
    _install(tmp_path, child, "echo up; exec sleep 60")
    await child.start("example")
    log = await _until(tmp_path, "up")
    await child.start("example")
    assert log.count("--- Kairos starts") == 1
    assert _log(tmp_path) == log


async def test_to_stop_ends_it_and_starts_it_no_more(tmp_path: Path, child: Child) -> None:
    _install(tmp_path, child, "echo up; exec sleep 60")
    await child.start("example")
    await _until(tmp_path, "up")
    pid = _pid(tmp_path)
    await child.stop("example")
    assert not await child.is_running("example")
    assert not _exists(pid)
    await child.stop("example")


async def test_a_killed_agent_leaves_it_running_and_the_next_one_adopts_it(tmp_path: Path, child: Child) -> None:
    _install(tmp_path, child, "echo up; exec sleep 60")
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", AGENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert agent.stdout
    assert await agent.stdout.readline() == b"started\n"
    await _until(tmp_path, "up")
    agent.kill()
    await agent.wait()
    pid = _pid(tmp_path)
    assert await child.is_running("example")
    await child.start("example")
    assert _pid(tmp_path) == pid
    # The one that was adopted is watched like a child: when it dies, it comes back.
    os.kill(pid, signal.SIGKILL)
    await _until(tmp_path, "up", times=2)
    assert _pid(tmp_path) != pid


async def test_two_supervisors_of_one_machine_run_one_and_a_stop_through_either_holds(
    tmp_path: Path, child: Child
) -> None:
    _install(tmp_path, child, "echo up; exec sleep 60")
    other = Child(HOME, tmp_path, back_off=(0.05,))
    await child.start("example")
    await _until(tmp_path, "up")
    await other.start("example")
    await other.restart("example")
    await _until(tmp_path, "up", times=2)
    await asyncio.sleep(0.3)  # several times the back-off of the one that did not restart it
    assert _log(tmp_path).count("--- Kairos starts") == 2
    await other.stop("example")
    await asyncio.sleep(0.3)
    assert not await child.is_running("example")
    assert _log(tmp_path).count("--- Kairos starts") == 2


async def test_a_process_that_got_the_number_later_is_not_taken_for_it(tmp_path: Path, child: Child) -> None:
    (tmp_path / "run/kairos").mkdir(parents=True)
    own = Path("/proc/self/stat").read_text()
    fields = own.split()
    fields[21] = "12345"  # another start time than ours
    (tmp_path / "run/kairos/example.pid").write_text(" ".join(fields))
    assert not await child.is_running("example")


@pytest.mark.parametrize("text", ["", "no number", "1 (", "1 (a) S 0", "\x00" * 20])
async def test_a_damaged_pid_file_means_not_running(tmp_path: Path, child: Child, text: str) -> None:
    (tmp_path / "run/kairos").mkdir(parents=True)
    (tmp_path / "run/kairos/example.pid").write_text(text)
    assert not await child.is_running("example")


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
