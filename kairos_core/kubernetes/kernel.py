"""What any kubelet needs of the kernel, looked at without changing anything.

Source: kubernetes.io, cgroups and container runtimes; `k3s check-config` (k3s-io/k3s, contrib/util/check-config.sh).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

from kairos_core.model import Finding, Verdict

CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
MODULES = {"overlay": "images in layers", "br_netfilter": "services between pods of one node"}


def examine_kernel(root: Path, modules: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is as it should be, and what is not; `modules` are needed beside the usual, each with what for."""
    yield _cgroups(root)
    yield _modules(root, {**MODULES, **modules})


def _cgroups(root: Path) -> Finding:
    missing = [name for name in CONTROLLERS if name not in _controllers(root)]
    if missing:
        message = f"the kernel has no cgroup controller {', '.join(missing)}, which the kubelet needs"
        remedy = "add cgroup_memory=1 cgroup_enable=memory to the kernel's command line, and reboot"
        return Finding("cgroups", Verdict.WRONG, message, remedy)
    return Finding("cgroups", Verdict.OK, f"{', '.join(CONTROLLERS)} are there")


def _controllers(root: Path) -> set[str]:
    unified = _lines(root / "sys/fs/cgroup/cgroup.controllers")
    if unified:
        return set(unified[0].split())
    rows = [line.split() for line in _lines(root / "proc/cgroups") if not line.startswith("#")]
    return {row[0] for row in rows if len(row) == 4 and row[3] == "1"}


def _modules(root: Path, modules: Mapping[str, str]) -> Finding:
    missing = [name for name in modules if _has_module(root, name) is False]
    if missing:
        needs = ", ".join(f"{name} ({modules[name]})" for name in missing)
        message = f"the kernel has no module {needs}"
        return Finding("kernel modules", Verdict.WRONG, message, "install the distribution's full kernel")
    return Finding("kernel modules", Verdict.OK, f"nothing that is needed is missing: {', '.join(modules)}")


def _has_module(root: Path, name: str) -> bool | None:
    """Say whether the kernel has a module, loaded, built in or to be loaded; None when nothing tells."""
    known = _lines(root / "proc/modules")
    if any(line.split()[0] == name for line in known) or (root / "sys/module" / name).exists():
        return True
    folder = root / "lib/modules" / platform.release()
    if not (folder / "modules.builtin").exists():
        return None
    files = [*_lines(folder / "modules.builtin"), *(line.partition(":")[0] for line in _lines(folder / "modules.dep"))]
    return any(Path(file).name.partition(".")[0].replace("-", "_") == name for file in files)


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text().splitlines() if line.strip()]
    except OSError:
        return []
