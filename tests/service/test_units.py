"""What units and scripts hold: arguments and secrets as they were given, however odd.

Golden copies hold the whole files: any change in them restarts Kubernetes on every machine whose agent is upgraded.
Regenerate with: python tests/service/test_units.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kairos_core import Home, SecretStr, Service, Supervisor, detect_supervisor
from kairos_core.service.child import Child
from kairos_core.service.openrc import OpenRc
from kairos_core.service.systemd import Systemd, format_command

GOLDEN = Path(__file__).parent / "golden"
HOME = Home("/var/lib/kairos/engine_example", "/etc/example")
SERVICE = Service(
    "example",
    ("run", "--label=owner=a b", "--value='x=100%$HOME'"),
    {"TOKEN": SecretStr('a"$tricky`\\one')},
    title="An example",
    documentation="https://example.org",
    block="example",
)


SUPERVISORS = {"systemd": Systemd(), "openrc": OpenRc(HOME), "child": Child(HOME)}


def _written(supervisor: Supervisor) -> str:
    files = supervisor.files(SERVICE, "/usr/local/bin/example")
    return "\n".join(f"== {file.path} {file.mode:o}\n{file.content}" for file in files)


@pytest.mark.parametrize("kind", SUPERVISORS)
def test_files_are_as_they_were(kind: str) -> None:
    golden = (GOLDEN / f"{kind}.txt").read_text()
    assert _written(SUPERVISORS[kind]) == golden, "regenerate as the head of this file says, and read the difference"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("notifies", [False, True])
def test_systemd_takes_the_unit(tmp_path: Path, notifies: bool) -> None:
    for file in Systemd().files(replace(SERVICE, notifies=notifies), "/bin/true"):
        (tmp_path / Path(file.path).name).write_text(file.content)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "example.service")],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"SYSTEMD_LOG_LEVEL": "warning"},
    )
    assert done.returncode == 0, done.stderr
    assert "example.service" not in done.stderr


def test_each_file_says_whose_it_is_and_only_environments_hold_secrets() -> None:
    for supervisor in SUPERVISORS.values():
        for file in supervisor.files(SERVICE, "/usr/local/bin/example"):
            assert ("tricky" in file.content) == file.path.endswith(".env")
            assert file.path.endswith(".json") or "Written by Kairos" in file.content
            if "tricky" in file.content:
                assert file.mode == 0o600


def test_a_service_that_tells_when_it_is_ready_is_waited_for() -> None:
    told = Service("example", (), {}, notifies=True)
    assert "Type=notify" in Systemd().files(told, "/bin/example")[0].content
    assert "Type=exec" in Systemd().files(SERVICE, "/bin/example")[0].content


def test_a_shell_takes_the_init_script_and_gets_the_arguments_unchanged(tmp_path: Path) -> None:
    script = tmp_path / "example"
    script.write_text(OpenRc(HOME).files(SERVICE, "/usr/local/bin/example")[0].content)
    subprocess.run(["sh", "-n", str(script)], check=True)
    line = next(line for line in script.read_text().splitlines() if line.startswith("command_args="))
    shown = f"{line}\neval set -- $command_args\nprintf '%s\\n' \"$@\""
    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True)
    assert tuple(done.stdout.splitlines()) == SERVICE.arguments


def test_a_command_line_is_quoted_for_systemd() -> None:
    command = format_command(["/bin/example", "plain=1", "two words", 'quote"d', "50%", "$HOME", "back\\slash", ""])
    words = [word.strip() for word in command.split("\\\n")]
    assert words == [
        "/bin/example",
        "plain=1",
        '"two words"',
        '"quote\\"d"',
        "50%%",
        "$$HOME",
        '"back\\\\slash"',
        '""',
    ]


@pytest.mark.parametrize(
    ("directory", "kind"), [("run/systemd/system", Systemd), ("run/openrc", OpenRc), ("run", Child)]
)
def test_the_supervisor_is_that_of_the_init_that_runs(tmp_path: Path, directory: str, kind: type) -> None:
    (tmp_path / directory).mkdir(parents=True)
    assert type(detect_supervisor(HOME, tmp_path)) is kind


if __name__ == "__main__":
    for kind, supervisor in SUPERVISORS.items():
        (GOLDEN / f"{kind}.txt").write_text(_written(supervisor))
