"""The files for systemd and OpenRC, against golden copies and the programs that read them.

Regenerate with: python plugins/engine_k3s/tests/test_units.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from kairos_engine_k3s.launch import HOME, launch_of
from kairos_engine_k3s.settings import AgentSettings, ServerSettings

from kairos_core import Attachment, Join, NodePlan, Role, SecretStr, Service
from kairos_core.service.child import Child
from kairos_core.service.openrc import OpenRc
from kairos_core.service.systemd import Systemd

GOLDEN = Path(__file__).parent / "golden"
PROGRAM = "/usr/local/bin/k3s"


def _services() -> dict[str, Service]:
    attachment = Attachment("kairos0", "10.1.0.7")
    settings = ServerSettings(args=("--node-label='owner=a b'", "--kubelet-arg='x=100%$HOME'"))
    join = Join("https://10.1.0.2:6443", SecretStr('K10"$tricky`\\::server:x'))
    server = NodePlan(Role.CLUSTER_INIT, "edge-7", attachment, cluster_token=SecretStr("cluster-token"))
    agent = NodePlan(Role.WORKER, "edge-7", attachment, join=join)
    return {
        "server": launch_of(server, settings, AgentSettings()).definition,
        "agent": launch_of(agent, settings, AgentSettings()).definition,
    }


def _rendered() -> dict[str, str]:
    supervisors = {"systemd": Systemd(), "openrc": OpenRc(HOME), "child": Child(HOME)}
    texts = {}
    for kind, supervisor in supervisors.items():
        for name, service in _services().items():
            parts = [f"== {f.path} {f.mode:o}\n{f.content}" for f in supervisor.files(service, PROGRAM)]
            texts[f"{kind}-{name}.txt"] = "\n".join(parts)
    return texts


@pytest.mark.parametrize("name", sorted(_rendered()))
def test_files_are_as_they_were(name: str) -> None:
    assert _rendered()[name] == (GOLDEN / name).read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for service in _services().values():
        for file in Systemd().files(service, "/bin/true"):
            (tmp_path / Path(file.path).name).write_text(file.content)
        unit = tmp_path / f"{service.name}.service"
        environment = os.environ | {"SYSTEMD_LOG_LEVEL": "warning"}
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit)],
            capture_output=True,
            check=False,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert f"{service.name}.service" not in done.stderr


if __name__ == "__main__":
    for golden, content in _rendered().items():
        (GOLDEN / golden).write_text(content)
