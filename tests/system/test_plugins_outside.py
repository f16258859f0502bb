"""Plugins come and go with their distributions: installed by plain pip into a fresh environment, and removed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system


def run(venv: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment, away from the checkout."""
    program, *rest = arguments
    return subprocess.run(
        [str(venv / "bin" / program), *rest],
        cwd=venv,
        env={"PATH": "/usr/bin:/bin", "HOME": str(venv)},
        capture_output=True,
        text=True,
        check=False,
    )


def listed(venv: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """Return what `kairos plugins list` shows, by distribution."""
    done = run(venv, "kairos", "plugins", "list", "--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return {row["distribution"]: row for row in json.loads(done.stdout)}


def config(venv: Path, peers: Path) -> str:
    """Write a configuration with the outside plugin's section."""
    text = run(venv, "kairos", "create-config").stdout
    file = venv / "config.yaml"
    file.write_text(f"{text}  file_discovery:\n    path: {peers}\n")
    return str(file)


USE = """
import asyncio, sys
from pathlib import Path
from kairos_core import Address
from kairos_core.config import parse_config
from kairos_core.runtime.files import read_documents
from kairos_core.runtime.plugins import load_plugins
from kairos_core.testing.discoveries import FakeBeacon

async def main(config, peers):
    plugins = load_plugins()
    settings = parse_config(read_documents([Path(config)]), plugins.sections()).settings
    discovery = plugins.get("discovery", "file").create(settings)
    beacon = FakeBeacon("network", 7373)
    running = asyncio.create_task(discovery.run(beacon))
    peers.write_text("10.0.0.1:7373\\nnonsense\\n")
    while Address("10.0.0.1", 7373) not in beacon.addresses:
        await asyncio.sleep(0.05)
    peers.write_text("10.0.0.1:7373\\n[fe80::1]:7374\\n")
    while len(beacon.addresses) < 2:
        await asyncio.sleep(0.05)
    running.cancel()
    print(*sorted(map(str, beacon.addresses)))

asyncio.run(asyncio.wait_for(main(sys.argv[1], Path(sys.argv[2])), 20))
"""


def test_a_third_partys_plugin_is_found_configured_and_used(
    outside_venv: Path, install_outside_plugin: Callable[[Path], None]
) -> None:
    assert "acme-file-discovery" not in listed(outside_venv)
    peers = outside_venv / "peers"
    refused = run(outside_venv, "kairos", "validate", config(outside_venv, peers))
    assert refused.returncode == 1
    assert "file_discovery" in refused.stderr

    install_outside_plugin(outside_venv)
    assert run(outside_venv, "kairos", "validate", config(outside_venv, peers)).returncode == 0
    row = listed(outside_venv, "--config", config(outside_venv, peers))["acme-file-discovery"]
    assert row == {
        "kind": "discovery",
        "name": "file",
        "plugin": "acme_file_discovery",
        "distribution": "acme-file-discovery",
        "version": "2.1",
        "state": "loaded",
        "chosen": True,
        "reason": "",
    }
    used = run(outside_venv, "python", "-c", USE, config(outside_venv, peers), str(peers))
    assert used.stdout == "10.0.0.1:7373 [fe80::1]:7374\n", used.stderr


def test_a_removed_plugin_is_gone_and_the_others_stay(outside_venv: Path) -> None:
    before = listed(outside_venv)
    assert {"kairos-discovery-dht", "kairos-net-vpn", "kairos-transport-tls"} <= set(before)
    gone = ("kairos-discovery-dht", "kairos-net-vpn")
    removed = run(outside_venv, "python", "-m", "pip", "--disable-pip-version-check", "uninstall", "-qy", *gone)
    assert removed.returncode == 0, removed.stderr
    after = listed(outside_venv)
    assert after == {name: row for name, row in before.items() if name not in gone}
    assert run(outside_venv, "kairos", "--help").returncode == 0


def test_the_core_alone_says_what_is_missing(outside_venv: Path) -> None:
    every = list(listed(outside_venv))
    assert run(outside_venv, "python", "-m", "pip", "uninstall", "-qy", *every).returncode == 0
    assert listed(outside_venv) == {}
    file = outside_venv / "config.yaml"
    file.write_text(run(outside_venv, "kairos", "create-config").stdout)
    started = run(
        outside_venv,
        "kairos",
        "start",
        "-c",
        str(file),
        "--state",
        str(outside_venv / "state"),
        "--run-dir",
        str(outside_venv / "run"),
    )
    assert started.returncode == 1
    assert "no transport is installed" in started.stderr
    assert "Traceback" not in started.stderr


def test_the_wheels_hold_what_new_plugins_are_made_from(outside_venv: Path) -> None:
    done = run(outside_venv, "kairos", "plugins", "new", "engine", "owl", str(outside_venv / "owl"))
    assert done.returncode == 0, done.stderr
    assert (outside_venv / "owl/kairos_engine_owl/__init__.py").exists()
