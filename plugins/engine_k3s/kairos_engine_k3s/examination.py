"""What k3s needs of this machine, looked at without changing anything.

Source: docs.k3s.io, installation/requirements and `k3s check-config` (k3s-io/k3s, contrib/util/check-config.sh).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

from kairos_core import Finding, Verdict

CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
MODULES = {"overlay": "images in layers", "br_netfilter": "services between pods of one node", "vxlan": "flannel"}


def examine(root: Path, program: str | None, *, installs: bool) -> Iterator[Finding]:
    """Yield what is as it should be, and what is not. `installs`: a missing k3s will be fetched."""
    yield _program(program, installs=installs)
    yield _cgroups(root)
    yield _modules(root)


def _program(program: str | None, *, installs: bool) -> Finding:
    if program is None and not installs:
        remedy = "put the k3s binary into /usr/local/bin, or set k3s.install"
        return Finding("k3s", Verdict.WRONG, "k3s is not installed", remedy)
    return Finding("k3s", Verdict.OK, program or "is installed at the first start")


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


def _modules(root: Path) -> Finding:
    missing = [name for name in MODULES if _has_module(root, name) is False]
    if missing:
        needs = ", ".join(f"{name} ({MODULES[name]})" for name in missing)
        message = f"the kernel has no module {needs}"
        return Finding("kernel modules", Verdict.WRONG, message, "install the distribution's full kernel")
    return Finding("kernel modules", Verdict.OK, f"nothing that is needed is missing: {', '.join(MODULES)}")


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
