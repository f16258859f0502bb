"""The data plane as a process: what it may do, and what becomes of it when its agent does not end in order."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system


def fields(pid: int) -> dict[str, str]:
    """Return what /proc/PID/status says."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


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
    assert {name for name in held if name not in ("/dev/null", "/dev/net/tun", "socket", "anon_inode")} <= {
        str(three[0].log)  # standard output and error, for its last words
    }
