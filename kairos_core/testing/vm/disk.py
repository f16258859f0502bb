"""Disks of virtual machines: file systems made from a directory, and layers over them that a machine writes to."""

from __future__ import annotations

from pathlib import Path

from kairos_core.testing.vm.command import must


def make_disk(tree: Path, disk: Path, megabytes: int) -> None:
    """Write an ext4 file system with the content of a directory; neither a loop device nor a mount is needed."""
    disk.unlink(missing_ok=True)
    with disk.open("wb") as file:
        file.truncate(megabytes << 20)
    # Lazy: the kernel in the machine would else find 2 GB of zeros written.
    must("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-d", tree, disk)


def make_layer(below: Path, disk: Path) -> None:
    """Make a disk that shows another and keeps what is written to it to itself."""
    must("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", "raw", disk)


def megabytes_of(tree: Path) -> int:
    """Return what a directory takes on a disk, rounded up."""
    return int(must("du", "-sm", tree).split()[0]) + 1
