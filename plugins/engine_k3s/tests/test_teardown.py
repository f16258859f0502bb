"""What is left of a k3s that ran containers, played by files, a mount and processes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kairos_engine_k3s.teardown import tear_down

DATA = "var/lib/rancher/k3s"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (f"{DATA}/agent/a", f"{DATA}/server/db", f"{DATA}/storage/volume", "var/lib/kubelet/pods/p"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").write_text("content")
    return tmp_path


async def test_the_pods_volumes_stay_and_so_does_another_kubelet(root: Path) -> None:
    await tear_down(root, f"/{DATA}")
    assert sorted(path.name for path in (root / DATA).iterdir()) == ["storage"]
    assert (root / "var/lib/kubelet/pods/p/file").exists()


async def test_what_is_gone_is_removed_again(root: Path) -> None:
    await tear_down(root, f"/{DATA}")
    await tear_down(root, f"/{DATA}")
    await tear_down(root, "/nowhere/at/all")


async def test_the_kubelets_directory_goes_when_k3s_ran_it(root: Path) -> None:
    (root / DATA / "data/0123").mkdir(parents=True)
    await tear_down(root, f"/{DATA}")
    assert not (root / "var/lib/kubelet").exists()
    assert not (root / DATA / "data").exists()


@pytest.fixture
def shim(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A containerd shim with a container, both played by a shell."""
    program = root / DATA / "data/0123/bin/containerd-shim-runc-v2"
    program.parent.mkdir(parents=True)
    shutil.copy("/bin/sh", program)
    process = subprocess.Popen(
        [str(program), "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.system
async def test_containers_that_k3s_left_running_are_killed(root: Path, shim: subprocess.Popen[bytes]) -> None:
    assert shim.stdout
    container = int(shim.stdout.readline())
    await tear_down(root, f"/{DATA}")
    assert await asyncio.to_thread(shim.wait, 5) == -9
    async with asyncio.timeout(5):
        while _runs(container):  # noqa: ASYNC110 - not our child: it has no event
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    """Say whether a process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def mount(root: Path) -> Iterator[Path]:
    point = root / "var/lib/kubelet/pods/p/volume"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], check=True)
    yield point
    subprocess.run(["umount", str(point)], check=False, stderr=subprocess.DEVNULL)


@pytest.mark.system
async def test_mounts_of_pods_are_unmounted_first(root: Path, mount: Path) -> None:
    (root / DATA / "data").mkdir()
    await tear_down(root, f"/{DATA}")
    assert not mount.parent.exists()


@pytest.mark.system
async def test_a_disk_mounted_in_the_data_directory_stays(root: Path) -> None:
    disk = root / DATA / "server/db"
    subprocess.run(["mount", "-t", "tmpfs", "none", str(disk)], check=True)
    try:
        (disk / "old").write_text("x")
        await tear_down(root, f"/{DATA}")
        assert disk.is_mount()
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)
