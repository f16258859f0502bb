"""What this machine must have to run virtual machines."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from kairos_core.testing.lab import LabError

PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "debootstrap": "debootstrap",
    "mke2fs": "e2fsprogs",
    "depmod": "kmod",
    "ip": "iproute2",
    "unshare": "util-linux",
}
"""Programs, and the packages of Debian that have them."""


def check_requirements() -> None:
    """Raise LabError that says what is missing and how to get it."""
    if platform.machine() != "x86_64":
        raise LabError(f"the virtual machines are x86-64, and this machine is {platform.machine()}. Use another")
    if os.geteuid() != 0:
        raise LabError("virtual machines need root: their disk is made by debootstrap. Run: sudo ./run test vm")
    missing = {program: package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise LabError(f"virtual machines need {', '.join(missing)}. Install them: apt-get install {packages}")


def has_kvm(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Say whether the processor can run virtual machines itself; /dev/kvm alone may be an emulation without it."""
    flags = next((line.split() for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), [])
    return bool({"vmx", "svm"} & set(flags)) and os.access("/dev/kvm", os.R_OK | os.W_OK)
