"""Removes what k3s itself made on this machine. Follows k3s-killall.sh and k3s-uninstall.sh (its install.sh).

Kept: /etc/rancher/node, the password under which the cluster knows this node's name; the program (unless we
installed it), the firewall rules of Kubernetes (a reboot clears them), and whatever is outside of k3s' own
directories.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

from kairos_core import EngineError, run_program

MOUNTS = ("run/k3s", "var/lib/kubelet/pods", "var/lib/kubelet/plugins", "run/netns/cni-")
DIRECTORIES = ("run/k3s", "run/flannel", "var/lib/kubelet", "var/lib/cni")
DATA = ("agent", "data", "server")
"""What goes of k3s' data directory; `storage`, the pods' local volumes, is the operator's and stays."""
INTERFACES = ("cni0", "flannel.1", "flannel-v6.1", "flannel-wg", "flannel-wg-v6", "kube-ipvs0")


async def tear_down(root: Path, data_directory: str) -> None:
    """Kill the containers that k3s left running, unmount and delete its directories. Raises EngineError."""
    data = root / data_directory.lstrip("/")
    if has_unpacked(data):
        await _remove_pods(root, data)
    for name in DATA:
        await asyncio.to_thread(_delete, data / name)
    remove_if_empty(data)


def has_unpacked(data: Path) -> bool:
    """Say whether k3s has unpacked its programs here: else containerd and the kubelet never ran from it.

    Without this, directories of another kubelet on the machine would go.
    """
    return (data / "data").is_dir()


async def _remove_pods(root: Path, data: Path) -> None:
    """Remove what containerd, the kubelet and flannel left outside of the data directory."""
    _kill_containers(data)
    for mount in await asyncio.to_thread(_mounts, root):
        await run_program("umount", "-f", mount, accept=(0, 1, 32))
    if root == Path("/"):
        for interface in INTERFACES:
            await run_program("ip", "link", "delete", interface, accept=(0, 1, 2))  # 1: there is none
    for name in DIRECTORIES:
        await asyncio.to_thread(_delete, root / name)


def _kill_containers(data: Path) -> None:
    """Kill the containers' shims that run from our data directory, and all their descendants."""
    shims = [pid for pid in _processes() if _is_shim(pid, data)]
    families = {pid: _parent(pid) for pid in _processes()}
    doomed = set(shims)
    while grown := {pid for pid, parent in families.items() if parent in doomed} - doomed:
        doomed |= grown
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def _is_shim(pid: int, data: Path) -> bool:
    try:
        program = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode(errors="replace")
    except OSError:
        return False
    return program.startswith(f"{data}/data/") and Path(program).name.startswith("containerd-shim")


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def _mounts(root: Path) -> list[str]:
    """Return the mount points of k3s, the deepest first."""
    starts = tuple(str(root / name) for name in MOUNTS)
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(starts)), reverse=True)


def _delete(directory: Path) -> None:
    """Delete a directory; a mount point in it (the operator's own disk, say) is emptied and stays."""
    if not directory.is_dir() or directory.is_symlink():
        return
    for entry in list(directory.iterdir()):
        try:
            if entry.is_dir() and not entry.is_symlink():
                _delete(entry) if _holds_mounts(entry) else shutil.rmtree(entry)
            else:
                entry.unlink()
        except OSError as error:
            raise EngineError(f"cannot delete {entry}: {error.strerror}. Is something still using it?") from None
    if not directory.is_mount():
        remove_if_empty(directory)  # it is not when it holds a mount point


def remove_if_empty(directory: Path) -> None:
    """Remove a directory that nobody uses any more."""
    with contextlib.suppress(OSError):
        directory.rmdir()


def _holds_mounts(directory: Path) -> bool:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return any(point == str(directory) or point.startswith(f"{directory}/") for point in points)
