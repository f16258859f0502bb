"""The benchmark of the VPN, run as people run it, for a few seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.system
BENCH = Path(__file__).parents[2] / "bench"


def bench(tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start it as a shell does in the background: with SIGINT ignored."""
    return subprocess.Popen(
        ["env", "--ignore-signal=INT", sys.executable, str(BENCH / "vpn.py"), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"TMPDIR": str(tmp_path), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
    )  # fmt: skip


def test_one_round_against_the_bare_cable_gives_figures_of_both(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    wish = ("--peers", "bare", "--tests", "rtt,tcp1,udpmix", "--rounds", "1", "--seconds", "1", "--json", str(file))
    process = bench(tmp_path, *wish)
    stdout, stderr = process.communicate(timeout=110)
    assert process.returncode == 0, stderr
    document = json.loads(file.read_text())
    assert set(document["ours"]) == set(document["ratio"]["bare"]) == {"rtt", "tcp1", "udpmix"}
    assert document["ratio"]["bare"]["rtt"] > 1 > document["ratio"]["bare"]["tcp1"] > 0
    assert document["cpu"]["ours"]["tcp1"]["cores"] > 0.1, "the data planes' processor time was not seen"
    assert "tcp1 >= 0.25 x bare" in stdout
    assert not list(tmp_path.glob("kairos-lab-*"))


def test_a_benchmark_that_is_interrupted_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    from tunnels.tunnel import descendants

    process = bench(tmp_path, "--peers", "bare", "--tests", "tcp1", "--rounds", "50")
    assert process.stderr is not None
    with process:
        for line in process.stderr:
            if line.startswith("round 1"):
                break
        started = list(descendants(process.pid))
        assert len(started) >= 8, "two machines, two agents, two data planes and the hub run by now"
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 128 + signal.SIGINT
    deadline = time.monotonic() + 5
    while any(tmp_path.iterdir()) or any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < deadline, (started, list(tmp_path.iterdir()))
        time.sleep(0.05)


def test_the_profile_says_what_each_stage_of_a_packet_costs(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    done = subprocess.run(
        [sys.executable, str(BENCH / "vpn_profile.py"), "--seconds", "1", "--json", str(file)],
        capture_output=True, text=True, timeout=100, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sender, receiver = json.loads(file.read_text())["sides"].values()
    for stage, side in (("tun_read", sender), ("seal", sender), ("udp_send", sender), ("open", receiver),
                        ("udp_receive", receiver), ("tun_write", receiver)):  # fmt: skip
        assert side[stage]["calls"] > 0.1, f"nothing was seen of {stage}"
        assert side[stage]["inside"] > 1


def test_a_short_soak_with_loss_stands_and_counts_what_happened(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    words = ("--minutes", "0.3", "--roam", "8", "--mbits", "5", "--json", str(file))
    subprocess.run(
        [sys.executable, str(BENCH / "soak.py"), *words],
        capture_output=True, text=True, timeout=100, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    found = json.loads(file.read_text())
    assert found["roamings"] >= 1
    assert found["broken"] == ""
    assert set(found["rss_mb"]) == {f"{side} {what}" for side in ("left", "right") for what in ("agent", "data plane")}
    assert all(20 < size < 200 for size in found["rss_mb"].values())
    # Whether the path stood still for too long is for the soak to say, over an hour on a quiet machine.
    assert set(found["longest_silence"]) == {"udp", "tcp"}


def test_a_short_flood_reaches_the_target_and_the_control_does_not(tmp_path: Path) -> None:
    file = tmp_path / "flood.json"
    words = ("--rounds", "1", "--seconds", "1", "--rate", "1000", "--no-renewal", "--json", str(file))
    done = subprocess.run(
        [sys.executable, str(BENCH / "flood.py"), *words],
        capture_output=True, text=True, timeout=110, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert set(found["gbits"]) == {"quiet", "control", "flood"}
    assert all(value > 0 for row in found["gbits"].values() for value in row.values())
    assert 500 < found["sent"] <= 1000
    refused = sum(found["drops"].get(f"vpn_{name}", 0) for name in ("cookie", "flooded", "unseal"))
    assert 0.8 * found["frames"]["flood"] < refused <= found["frames"]["flood"], "what the control sent is not in it"
    assert "tcp1 >= 0.7 x quiet" in done.stdout
