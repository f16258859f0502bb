"""Work apart is done in a child process; its answer, its error or its end comes back, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from kairos_core import ConfigError, KairosError
from kairos_core.runtime.apart import Apart


def test_what_the_work_returns_comes_back() -> None:
    assert Apart(lambda: {"pid": [1, 2]}).result() == {"pid": [1, 2]}


def test_the_work_is_done_in_another_process() -> None:
    assert Apart(os.getpid).result() != os.getpid()


def test_two_can_run_at_once_and_a_large_answer_fits() -> None:
    first, second = Apart(lambda: b"1" * 3_000_000), Apart(lambda: b"2" * 3_000_000)
    assert (len(second.result()), len(first.result())) == (3_000_000, 3_000_000)


class OfPydantic(BaseModel):
    size: int


def test_the_settings_of_a_plugin_that_uses_pydantic_come_back() -> None:
    assert Apart(lambda: {"p2p.x": OfPydantic(size=3)}).result() == {"p2p.x": OfPydantic(size=3)}


def refuse() -> None:
    raise ConfigError("a.yaml, line 3: p2p is wrong")


def test_an_error_made_on_purpose_comes_back_as_it_was() -> None:
    with pytest.raises(ConfigError, match=r"^a\.yaml, line 3: p2p is wrong$") as caught:
        Apart(refuse).result()
    assert not hasattr(caught.value, "__notes__")


def stumble() -> None:
    raise ZeroDivisionError("a defect")


def test_a_defect_comes_back_with_the_place_where_it_happened() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        Apart(stumble).result()
    assert "in stumble" in caught.value.__notes__[0]


def test_a_child_that_was_killed_is_an_error_that_says_so() -> None:
    with pytest.raises(KairosError, match="signal 9 ended it"):
        Apart(lambda: os.kill(os.getpid(), signal.SIGKILL)).result()


def test_an_answer_that_cannot_travel_is_an_error() -> None:
    with pytest.raises(TypeError, match="cannot pickle 'generator'"):
        Apart(lambda: (yield)).result()


def test_nothing_of_the_parent_runs_in_the_child() -> None:
    code = (
        "import atexit, sys; from kairos_core.runtime.apart import Apart\n"
        "atexit.register(print, 'end'); sys.stdout.write('waits ')\n"
        "try: Apart(lambda: sys.exit(3)).result()\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("waits") == done.stdout.count("end\n") == 1
    assert "it ended with 1" in done.stdout


def test_what_the_child_imports_is_not_here(tmp_path: Path) -> None:
    (tmp_path / "never_seen_here.py").write_text("VALUE = 7")

    def work() -> int:
        sys.path.insert(0, str(tmp_path))
        return int(__import__("never_seen_here").VALUE)

    assert Apart(work).result() == 7
    assert "never_seen_here" not in sys.modules


def test_no_descriptor_and_no_child_is_left() -> None:
    before = os.listdir("/proc/self/fd")
    Apart(lambda: None).result()
    with pytest.raises(ConfigError):
        Apart(refuse).result()
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
