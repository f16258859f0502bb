"""The program k3s: finds it, asks its version, and puts a draft of it into its place."""

from __future__ import annotations

import os
from pathlib import Path

from kairos_core import Disk, EngineError, locate_program, run_program

PROGRAM = "/usr/local/bin/k3s"
"""Where we install it, as k3s' installer does."""

PLACES = (PROGRAM, "/usr/bin/k3s", "/opt/bin/k3s")
"""Where k3s' installer and Kairos' images put it; asked after PATH."""

MISSING = (
    "k3s is not installed on this machine, and nothing says where to get it. Put the k3s binary into /usr/local/bin; "
    "or set k3s.install.version or k3s.install.channel to download it (k3s.install.url names a mirror); or set "
    "k3s.install.source to a k3s binary or to a directory that holds one (see https://github.com/k3s-io/k3s/releases)."
)


class UnfitError(EngineError):
    """What was found or fetched is not the k3s that it should be: the same place has nothing better a second later."""


def find_program(root: Path) -> str | None:
    """Return the path of k3s; under another root than / only that root is searched."""
    return locate_program("k3s", PLACES, root)


async def program_version(program: str) -> str:
    """Return the version that k3s tells of itself. Raises EngineError."""
    _, output = await run_program(program, "--version", timeout=20.0)
    first = (output.splitlines() or [""])[0]
    return first.removeprefix("k3s version ").strip() or "unknown"


def put_program(draft: Path, disk: Disk) -> str:
    """Put a verified draft from the same directory into its place, at once; return the path. Raises EngineError.

    A k3s of the operator is kept beside, and comes back when ours goes. What runs is started again: the record
    says that no service runs from these files.
    """
    target = disk.path(PROGRAM)
    try:
        if target.exists() and not disk.state().program:
            disk.keep_aside(PROGRAM)
        disk.remember(program=PROGRAM, running="")
        draft.chmod(0o755)
        draft.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise EngineError(f"cannot put k3s into {target}: {error.strerror}. Is it read-only?") from None
    return str(target)


def _sync(directory: Path) -> None:
    """Bring a new name to the disk, so that a power cut leaves the old file or the new one."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
