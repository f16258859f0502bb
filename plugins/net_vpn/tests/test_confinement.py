"""A process that gives up its rights, tried in processes of its own: there is no way back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def says(source: str) -> str:
    """Run a program after it has given up everything, and return what it says."""
    program = (
        "import os, socket, sys\n"
        "from kairos_net_vpn import confinement\n"
        "print(confinement.give_up_privileges())\n"
        "print(confinement.shut_files(sys.path))\n" + source
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "attempt",
    [
        "open({file!r}).read()",
        "open({file!r}, 'w')",
        "os.truncate({file!r}, 0)",
        "os.unlink({file!r})",
        "os.listdir({directory!r})",
        "os.mkdir({directory!r} + '/new')",
        "os.execv('/bin/true', ['true'])",
    ],
    ids=["read", "write", "truncate", "remove", "list", "make", "run"],
)
def test_no_file_can_be_reached_any_more(tmp_path: Path, attempt: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("kept")
    body = attempt.format(file=str(secret), directory=str(tmp_path))
    source = f"try:\n    {body}\nexcept PermissionError:\n    print('barred')"
    said = says(source)
    if "barred" not in said and not has_landlock():
        pytest.skip("this kernel has no Landlock, which is what bars files")
    assert said.endswith("barred\n")
    assert secret.read_text() == "kept"


@pytest.mark.parametrize(
    "attempt",
    [
        "os.kill(os.getppid(), 0)",
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.create_server(('127.0.0.1', 0))",
    ],
    ids=["signal", "connect", "listen"],
)
def test_no_other_process_can_be_reached_any_more(attempt: str) -> None:
    said = says(f"try:\n    {attempt}\nexcept PermissionError:\n    print('barred')")
    if "barred" not in said and kernel() < (6, 12):
        pytest.skip("Landlock bars signals since Linux 6.12, TCP since 6.7")
    assert said.endswith("barred\n")


def kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


def has_landlock() -> bool:
    modules = Path("/sys/kernel/security/lsm")
    return not modules.exists() or "landlock" in modules.read_text()


def test_sockets_and_inherited_descriptors_still_work() -> None:
    said = says(
        "a, b = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "b.bind(('127.0.0.1', 0))\n"
        "a.sendto(b'across', b.getsockname())\n"
        "print(b.recv(100))\n"
        "print(socket.if_nametoindex('lo'))\n"
    )
    assert "b'across'" in said


def test_a_module_that_is_needed_late_is_still_found() -> None:
    assert says("print('later' if 'colorsys' not in sys.modules else 'before')\nimport colorsys\n").endswith("later\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")
def test_root_gives_up_everything_without_a_refusal() -> None:
    assert says("").splitlines()[0] == "[]"


def test_what_is_refused_is_said_and_stops_nothing() -> None:
    """A user who is not root may not touch the bounding set."""
    plain = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    program = "from kairos_net_vpn import confinement; print(*confinement.give_up_privileges(), sep='\\n')"
    done = subprocess.run(
        [*plain, sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "the bounding set stays: Operation not permitted\n"
