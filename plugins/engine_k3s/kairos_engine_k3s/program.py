"""The program k3s: finds it, asks its version, installs it from a file on this machine when it is missing.

Downloads (version, channel, checksum from a URL or mirror) will come here too; `Install` has room for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
from pathlib import Path

from kairos_core import EngineError, run_program

PLACES = ("/usr/local/bin/k3s", "/usr/bin/k3s", "/opt/bin/k3s")
"""Where k3s' installer and Kairos' images put it; asked after PATH."""

# The names of release files by machine. Source: assets of the releases of k3s-io/k3s.
_SUFFIX = {"x86_64": "", "aarch64": "-arm64", "armv7l": "-armhf", "s390x": "-s390x", "riscv64": "-riscv64"}
_SUM = {"": "amd64", "-arm64": "arm64", "-armhf": "arm", "-s390x": "s390x", "-riscv64": "riscv64"}


def find_program(root: Path) -> str | None:
    """Return the path of k3s; under another root than / only that root is searched."""
    found = shutil.which("k3s") if root == Path("/") else None
    places = (str(root / place.lstrip("/")) for place in PLACES)
    return found or next((place for place in places if os.access(place, os.X_OK)), None)


async def program_version(program: str) -> str:
    """Return the version that k3s tells of itself. Raises EngineError."""
    _, output = await run_program(program, "--version", timeout=20.0)
    first = (output.splitlines() or [""])[0]
    return first.removeprefix("k3s version ").strip() or "unknown"


def install_program(source: Path, root: Path) -> str:
    """Copy k3s from a file, or from a directory with a release's files, to /usr/local/bin; return its path.

    A checksum file (sha256sum-<arch>.txt) beside it is honoured. Raises EngineError.
    """
    suffix = _SUFFIX.get(platform.machine(), "")
    binary = source / f"k3s{suffix}" if source.is_dir() else source
    if source.is_dir() and not binary.exists():
        binary = source / "k3s"
    target = root / "usr/local/bin/k3s"
    draft = target.with_name(".k3s.new")
    try:
        _verify(binary, binary.parent / f"sha256sum-{_SUM[suffix]}.txt")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(binary, draft)
        draft.chmod(0o755)
        draft.replace(target)  # never half a binary under the name that is run
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise EngineError(
            f"cannot install k3s from {binary} to {target}: {error.strerror}. "
            "Set k3s.install.source to a k3s binary, or to a directory that holds one."
        ) from None
    return str(target)


def _verify(binary: Path, sums: Path) -> None:
    if not sums.exists():
        return
    lines = [line.split() for line in sums.read_text().splitlines() if line]
    expected = {name: digest for digest, name in lines}.get(binary.name)
    if expected is None:
        return
    with binary.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise EngineError(
            f"{binary} is damaged: its SHA-256 is {found}, {sums} says {expected}. Copy both files again."
        )


MISSING = (
    "k3s is not installed on this machine. Put the k3s binary into /usr/local/bin, or set k3s.install.source "
    "to a k3s binary or to a directory that holds one (see https://github.com/k3s-io/k3s/releases)."
)
