"""The disk that all virtual machines start from, and Debian's kernel: made once and kept in the cache.

The kernel is the one of Debian's cloud image: NVMe and ext4 are built into it, so it needs no initrd, and whatever else
these machines have comes as modules. Packages come from the archive that apt of this machine is set up with. What the
lab adds is the tree `root/` beside this file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kairos_core.testing.lab import LabError
from kairos_core.testing.vm.command import must
from kairos_core.testing.vm.disk import make_disk

PLACE = "opt/kairos"
"""Where machines see the disk with Kairos; `root/etc/fstab` mounts it, and a .pth file lets their Python find it."""

KERNEL = "linux-image-cloud-amd64"
PACKAGES = (
    *("systemd-sysv", "dbus", "udev", "kmod", "qemu-guest-agent"),
    *("python3", "curl", "ca-certificates", "procps", "iproute2", "iputils-ping", "nftables"),
    "wireguard-tools",  # its kernel module comes with the kernel
)
MEGABYTES = 2048
ADDED = Path(__file__).with_name("root")

MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("getty.target", "systemd-timesyncd.service", "systemd-pstore.service", "e2scrub_reap.service"),
    *("systemd-binfmt.service", "systemd-hwdb-update.service", "systemd-network-generator.service"),
    *("systemd-networkd.service", "systemd-networkd.socket", "nftables.service"),  # lab-link is all there is to set up
    *("modprobe@drm.service", "modprobe@configfs.service", "modprobe@dm_mod.service", "modprobe@fuse.service"),
    *("modprobe@loop.service", "modprobe@efi_pstore.service", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount"),
)
"""Units that nothing here needs; together they double the time of a boot without KVM. No clock is set, above all."""


@dataclass(frozen=True, slots=True)
class System:
    """What machines start from: the kernel, the disk, and the tree that the disk was made of."""

    directory: Path

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def disk(self) -> Path:
        return self.directory / "disk.img"

    @property
    def tree(self) -> Path:
        return self.directory / "tree"

    def python_version(self) -> str:
        """Return the version of the machines' Python as pip names it, for example 3.11."""
        [version] = {path.name for path in self.tree.glob("usr/lib/python3.*")}
        return version.removeprefix("python")


def find_system() -> System:
    """Return the system of this recipe, made now if need be: a minute or two. Raises LabError."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kairos-lab"
    home.mkdir(parents=True, exist_ok=True)
    directory = home / f"system-{_recipe()}"
    with _locked(home / "lock"):
        if not directory.exists():
            for old in home.glob("system-*"):
                shutil.rmtree(old)
            unfinished = home / f"system-{_recipe()}.new"
            unfinished.mkdir()
            _make(System(unfinished))
            unfinished.rename(directory)
    return System(directory)


def _recipe() -> str:
    """Name what the disk is made of, so that a change of it makes another."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(ADDED.rglob("*")):
        digest.update(str(path.relative_to(ADDED)).encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()[:12]


def _make(system: System) -> None:
    codename, archive = _archive()
    packages = ",".join(PACKAGES)
    must("debootstrap", "--variant=minbase", f"--include={packages}", codename, system.tree, archive)
    _add_kernel(system)
    _add_settings(system.tree)
    make_disk(system.tree, system.disk, MEGABYTES)


def _archive() -> tuple[str, str]:
    """Return the release and the archive of Debian that apt is set up with."""
    fields = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    for line in must("apt-get", "indextargets", "--format", fields).splitlines():
        origin, component, codename, archive = line.split(maxsplit=3)
        if (origin, component) == ("Debian", "main") and "-" not in codename:
            return codename, archive
    raise LabError(
        "apt of this machine has no archive of Debian to make virtual machines from. Run apt-get update; on "
        "another distribution, use a machine or a container with Debian"
    )


def _add_kernel(system: System) -> None:
    """Unpack Debian's kernel; installing it would need an initrd that nobody reads."""
    wanted = must("apt-cache", "depends", KERNEL)
    package = next(line.split()[-1] for line in wanted.splitlines() if "Depends: linux-image-" in line)
    unpacked = system.directory / "kernel"
    unpacked.mkdir()
    must("apt-get", "download", "-q", package, cwd=unpacked)
    [archive] = unpacked.glob("*.deb")
    must("dpkg-deb", "-x", archive, unpacked)
    [kernel] = unpacked.glob("boot/vmlinuz-*")
    version = kernel.name.removeprefix("vmlinuz-")
    shutil.move(kernel, system.kernel)
    modules = system.tree / "lib/modules"
    modules.mkdir(parents=True, exist_ok=True)
    shutil.move(unpacked / "lib/modules" / version, modules / version)
    must("depmod", "-b", system.tree, version)
    shutil.rmtree(unpacked)


def _add_settings(tree: Path) -> None:
    must("cp", "--recursive", "--preserve=mode", f"{ADDED}/.", tree)
    for program in (*tree.glob("usr/local/bin/*"), *tree.glob("usr/local/sbin/*")):
        program.chmod(0o755)  # an installation from a wheel may have lost it
    (tree / "etc/hostname").unlink(missing_ok=True)  # the kernel's command line has it
    (tree / "etc/machine-id").write_text("")  # so does this
    (tree / PLACE).mkdir(parents=True)
    units = tree / "etc/systemd/system"
    links = {units / unit: "/dev/null" for unit in MASKED}
    links[units / "multi-user.target.wants/lab-link.service"] = "/etc/systemd/system/lab-link.service"
    links[units / "default.target"] = "/lib/systemd/system/multi-user.target"
    for link, target in links.items():
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
        shutil.rmtree(tree / waste, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one at a time make the system; the kernel frees the lock of one that dies, and its leavings are removed."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for unfinished in path.parent.glob("system-*.new"):
            shutil.rmtree(unfinished)
        yield
