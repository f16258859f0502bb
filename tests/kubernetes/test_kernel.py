"""What a kubelet needs of the kernel, found or missing on machines that are made of files."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from kairos_core.kubernetes.kernel import examine_kernel
from kairos_core.model import Verdict

V1 = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t1\t1\ncpu\t1\t1\t1\nmemory\t4\t1\t{}\npids\t5\t1\t1\n"
BUILTIN = "kernel/fs/overlayfs/overlay.ko\nkernel/drivers/net/vxlan/vxlan.ko\n"
LOADABLE = "kernel/net/bridge/br_netfilter.ko.xz: kernel/net/bridge/bridge.ko.xz\n"


def machine(root: Path, **files: str) -> Path:
    """Write files, `__` in their names for a slash."""
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("RELEASE", platform.release())
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def modules(root: Path, builtin: str, loadable: str) -> None:
    folder = root / "lib/modules" / platform.release()
    folder.mkdir(parents=True)
    (folder / "modules.builtin").write_text(builtin)
    (folder / "modules.dep").write_text(loadable)


def wrong(root: Path) -> dict[str, str]:
    findings = examine_kernel(root, {"vxlan": "flannel"})
    return {each.check: each.message for each in findings if each.verdict is Verdict.WRONG}


@pytest.mark.parametrize(
    "files",
    [{"proc__cgroups": V1.format(1)}, {"sys__fs__cgroup__cgroup.controllers": "cpuset cpu io memory pids\n"}],
)
def test_both_kinds_of_cgroups_are_seen(tmp_path: Path, files: dict[str, str]) -> None:
    modules(tmp_path, BUILTIN, LOADABLE)
    assert wrong(machine(tmp_path, **files)) == {}


def test_a_controller_that_is_switched_off_is_missing(tmp_path: Path) -> None:
    assert "memory" in wrong(machine(tmp_path, proc__cgroups=V1.format(0)))["cgroups"]


def test_a_module_that_the_kernel_does_not_have_is_named_with_what_needs_it(tmp_path: Path) -> None:
    machine(tmp_path, proc__cgroups=V1.format(1), proc__modules="vxlan 1 0 - Live 0x0\n")
    modules(tmp_path, "kernel/fs/overlayfs/overlay.ko\n", "")
    assert wrong(tmp_path) == {
        "kernel modules": "the kernel has no module br_netfilter (services between pods of one node)"
    }


def test_where_nothing_tells_of_modules_none_is_called_missing(tmp_path: Path) -> None:
    assert "kernel modules" not in wrong(machine(tmp_path, proc__cgroups=V1.format(1)))
