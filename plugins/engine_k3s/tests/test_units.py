"""The files for systemd and OpenRC, against golden copies and the programs that read them.

Regenerate with: python plugins/engine_k3s/tests/test_units.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from kairos_engine_k3s.child import Child
from kairos_engine_k3s.detection import detect_supervisor
from kairos_engine_k3s.launch import Launch, launch_of
from kairos_engine_k3s.openrc import OpenRc
from kairos_engine_k3s.settings import AgentSettings, ServerSettings
from kairos_engine_k3s.systemd import Systemd, format_command

from kairos_core import Attachment, Join, NodePlan, Role, SecretStr

GOLDEN = Path(__file__).parent / "golden"
PROGRAM = "/usr/local/bin/k3s"


def _launches() -> dict[str, Launch]:
    attachment = Attachment("kairos0", "10.1.0.7")
    settings = ServerSettings(args=("--node-label='owner=a b'", "--kubelet-arg='x=100%$HOME'"))
    join = Join("https://10.1.0.2:6443", SecretStr('K10"$tricky`\\::server:x'))
    server = NodePlan(Role.CLUSTER_INIT, "edge-7", attachment, cluster_token=SecretStr("cluster-token"))
    agent = NodePlan(Role.WORKER, "edge-7", attachment, join=join)
    return {
        "server": launch_of(server, settings, AgentSettings()),
        "agent": launch_of(agent, settings, AgentSettings()),
    }


def _rendered() -> dict[str, str]:
    supervisors = {"systemd": Systemd(), "openrc": OpenRc(), "child": Child()}
    texts = {}
    for kind, supervisor in supervisors.items():
        for name, launch in _launches().items():
            parts = [f"== {f.path} {f.mode:o}\n{f.content}" for f in supervisor.files(launch, PROGRAM)]
            texts[f"{kind}-{name}.txt"] = "\n".join(parts)
    return texts


@pytest.mark.parametrize("name", sorted(_rendered()))
def test_files_are_as_they_were(name: str) -> None:
    assert _rendered()[name] == (GOLDEN / name).read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for launch in _launches().values():
        for file in Systemd().files(launch, "/bin/true"):
            (tmp_path / Path(file.path).name).write_text(file.content)
        unit = tmp_path / f"{launch.service}.service"
        environment = os.environ | {"SYSTEMD_LOG_LEVEL": "warning"}
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit)],
            capture_output=True,
            check=False,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert f"{launch.service}.service" not in done.stderr


def test_a_shell_takes_the_init_script_and_gets_the_arguments_unchanged(tmp_path: Path) -> None:
    launch = _launches()["server"]
    script = tmp_path / "k3s"
    script.write_text(OpenRc().files(launch, PROGRAM)[0].content)
    subprocess.run(["sh", "-n", str(script)], check=True)
    line = next(line for line in script.read_text().splitlines() if line.startswith("command_args="))
    shown = f"{line}\neval set -- $command_args\nprintf '%s\\n' \"$@\""
    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True)
    assert tuple(done.stdout.splitlines()) == launch.arguments


def test_a_command_line_is_quoted_for_systemd() -> None:
    command = format_command(["/bin/k3s", "plain=1", "two words", 'quote"d', "50%", "$HOME", "back\\slash", ""])
    words = [word.strip() for word in command.split("\\\n")]
    assert words == [
        "/bin/k3s",
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
    assert type(detect_supervisor(tmp_path)) is kind


if __name__ == "__main__":
    for golden, content in _rendered().items():
        (GOLDEN / golden).write_text(content)
