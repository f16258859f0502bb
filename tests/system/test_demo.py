"""The demo is what people see first, so it is a test too: run as they run it, held to its JSON."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.system
HERE = Path(__file__).parent
KAIROS = [sys.executable, "-c", "from kairos_core.cli import main; main()"]


def demo(*arguments: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*KAIROS, "demo", *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def grown(tmp_path: Path, *arguments: str) -> dict:
    """Run the demo to its end and return its JSON, checked against what every run promises."""
    file = tmp_path / "out.json"
    process = demo("--json", str(file), *arguments)
    stdout, stderr = process.communicate(timeout=110)
    assert process.returncode == 0, stderr
    result = json.loads(file.read_text())
    nodes = result["nodes"]
    assert set(result) == {"nodes", "seconds", "ping", "kubeconfig", "engine"}
    assert all(set(node) == {"name", "peer_id", "role", "vpn_ip", "ready"} for node in nodes)
    assert all(node["ready"] for node in nodes)
    assert all(node["peer_id"].startswith("12D3KooW") for node in nodes)
    assert len({node["vpn_ip"] for node in nodes}) == len({node["peer_id"] for node in nodes}) == len(nodes)
    assert list(result["seconds"]) == ["discovered", "roles", "vpn", "engine"]
    pairs = len(nodes) * (len(nodes) - 1)
    assert result["ping"]["pairs"] == result["ping"]["ok"] == pairs
    assert all(node["name"] in stdout and node["vpn_ip"] in stdout for node in nodes)
    assert result["kubeconfig"].strip() in stdout
    return result


def roles(result: dict) -> list[str]:
    return sorted(node["role"] for node in result["nodes"])


def test_three_machines_become_one_cluster(tmp_path: Path) -> None:
    result = grown(tmp_path, "--nodes", "3")
    assert roles(result) == ["master", "worker", "worker"]
    [master] = [node for node in result["nodes"] if node["role"] == "master"]
    kubeconfig = yaml.safe_load(result["kubeconfig"])
    assert kubeconfig["clusters"][0]["cluster"]["server"] == f"https://{master['vpn_ip']}:6443"


def test_five_machines_with_two_further_masters_are_pinging_within_eight_seconds(tmp_path: Path) -> None:
    result = grown(tmp_path, "--nodes", "5", "--ha", "2")
    assert roles(result) == ["master/clusterinit", "master/ha", "master/ha", "worker", "worker"]
    assert result["seconds"]["roles"] <= 8
    assert result["seconds"]["vpn"] <= 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    process = demo("--nodes", "3", "--keep", env={"TMPDIR": str(tmp_path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    assert process.stderr is not None
    with process:
        inside = []
        for line in process.stderr:
            inside += re.findall(r"nsenter -t (\d+)", line)
            if "press Enter" in line:
                break
        assert len(inside) == 4  # the nodes and the laptop
        process.send_signal(number)
        assert process.wait(10) != 0
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in inside) or any(tmp_path.iterdir()):
        assert time.monotonic() < deadline, (inside, list(tmp_path.iterdir()))
        time.sleep(0.05)


def test_a_demo_that_fails_says_why_and_keeps_the_logs(tmp_path: Path) -> None:
    broken = tmp_path / "bin" / "k3s"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho this k3s is broken on purpose >&2\nexit 1\n")
    broken.chmod(0o755)
    path = f"{broken.parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    process = demo("--nodes", "2", "--timeout", "8", env={"TMPDIR": str(tmp_path), "PATH": path})
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "still waiting for 'engine'" in stderr
    kept = re.search(r"logs are kept in (\S+)", stderr)
    assert kept
    assert {file.name for file in Path(kept[1]).iterdir()} >= {"node-1-kairos.log", "node-2-kairos.log"}
    assert "network_token" not in stdout + stderr
    assert not list(tmp_path.glob("kairos-lab-*"))


def test_more_masters_than_machines_are_refused() -> None:
    process = demo("--nodes", "2", "--ha", "2")
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "--ha 2 needs at least 3 nodes, not 2" in stderr


def test_an_unprivileged_user_can_run_it(tmp_path: Path) -> None:
    script = HERE / "as_nobody.sh"
    command = ["unshare", "--mount", "sh", str(script), "chmod 0666 /dev/net/tun", sys.base_prefix]
    output = subprocess.run(
        [*command, *KAIROS, "demo", "--nodes", "2", "--json", "-"],
        capture_output=True, text=True, timeout=110, check=False, cwd="/", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert output.returncode == 0, output.stderr
    assert roles(json.loads(output.stdout)) == ["master", "worker"]
