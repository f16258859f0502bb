"""Kairos and all that it depends on, for the Python of the virtual machines, on a disk that they read only.

The code is what is in the given projects now, built as for a release; its dependencies are those that pip or uv finds
for the Python of the machines, whichever runs the test.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from kairos_core.testing.vm.command import must
from kairos_core.testing.vm.disk import make_disk, megabytes_of
from kairos_core.testing.vm.system import PLACE, System

PLATFORMS = ("manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_28_x86_64")


def make_bundle(projects: Sequence[Path], system: System, directory: Path) -> Path:
    """Build projects, install them with their dependencies into a new disk, and return it. Raises LabError."""
    wheels, tree = directory / "wheels", directory / "bundle"
    wheels.mkdir(parents=True)
    for project in projects:
        must(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels, cwd=project)
    _install(sorted(wheels.glob("*.whl")), tree, system.python_version())
    _compile(tree, system)
    disk = directory / "bundle.img"
    make_disk(tree, disk, megabytes_of(tree) * 5 // 4 + 16)
    shutil.rmtree(tree)
    return disk


def _install(wheels: Sequence[Path], tree: Path, version: str) -> None:
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-compile", *platforms]
    if find_spec("pip") is None:  # uv makes environments without
        pip = ["uv", "pip", "install", "-q", "--python", sys.executable, "--python-platform", "x86_64-manylinux_2_28"]
    must(*pip, "--target", tree, "--python-version", version, "--only-binary=:all:", *wheels)


def _compile(tree: Path, system: System) -> None:
    """Compile it with the machines' own Python: a disk that is read only keeps nothing that is compiled later."""
    # The mount is in a namespace of its own, so it ends with the command.
    script = 'mount --bind "$1" "$2" && exec chroot "$3" python3 -m compileall -q "/$4"'
    must("unshare", "--mount", "sh", "-c", script, "compile", tree, system.tree / PLACE, system.tree, PLACE)
