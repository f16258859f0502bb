"""The program k0s: finds it, installs it from a file on this machine when it is missing, asks it for things."""

from __future__ import annotations

import contextlib
import platform
import shutil
from pathlib import Path

from kairos_core import EngineError, locate_program, run_program
from kairos_engine_k0s.tokens import ROLES

PLACES = ("/usr/local/bin/k0s", "/usr/bin/k0s", "/opt/bin/k0s")
"""Where k0s' installer and Kairos' images put it; asked after PATH."""

# The ends of the names of release files by machine. Source: assets of the releases of k0sproject/k0s.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}

NOT_JOINABLE = "cannot join controller into current storage"
"""How k0s refuses a token for controllers. Source: cmd/token/create.go."""

RESET_PATIENCE = 300.0
"""Seconds for `k0s reset`: it stops containers one by one."""

MISSING = (
    "k0s is not installed on this machine. Put the k0s binary into /usr/local/bin, or set k0s.install.source "
    "to a k0s binary or to a directory that holds one (see https://github.com/k0sproject/k0s/releases)."
)


def find_program(root: Path) -> str | None:
    """Return the path of k0s; under another root than / only that root is searched."""
    return locate_program("k0s", PLACES, root)


def install_program(source: Path, root: Path) -> str:
    """Copy k0s from a file, or from a directory with one, to /usr/local/bin; return its path. Raises EngineError."""
    binary = _binary(source) if source.is_dir() else source
    target = root / "usr/local/bin/k0s"
    draft = target.with_name(".k0s.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(binary, draft)
        draft.chmod(0o755)
        draft.replace(target)  # never half a binary under the name that is run
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise EngineError(
            f"cannot install k0s from {binary} to {target}: {error.strerror}. "
            "Set k0s.install.source to a k0s binary, or to a directory that holds one."
        ) from None
    return str(target)


def _binary(directory: Path) -> Path:
    """Return `k0s`, else the release for this machine (k0s-v1.33.4+k0s.0-amd64) that is last by name."""
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    releases = sorted(directory.glob(f"k0s-v*-{architecture}"))
    return releases[-1] if releases and not (directory / "k0s").exists() else directory / "k0s"


async def program_version(program: str) -> str:
    """Return the version that k0s tells of itself. Raises EngineError."""
    _, output = await run_program(program, "version", timeout=20.0)
    return output.strip().partition("\n")[0] or "unknown"


async def admin_kubeconfig(program: str, data_directory: str) -> str:
    """Return the administrator's kubeconfig. Raises EngineError."""
    _, output = await run_program(program, "kubeconfig", "admin", f"--data-dir={data_directory}")
    return output


async def create_tokens(program: str, data_directory: str) -> dict[str, str]:
    """Make a join token for each role, without expiry. Raises EngineError.

    There is none for controllers where the storage takes no second one (an etcd of the operator's, SQLite).
    """
    tokens = {}
    for role in ROLES:
        try:
            _, output = await run_program(program, "token", "create", f"--role={role}", f"--data-dir={data_directory}")
        except EngineError as error:
            if NOT_JOINABLE in str(error):
                continue
            raise
        tokens[role] = output.strip()
    return tokens


async def reset(program: str, data_directory: str) -> None:
    """Let k0s remove its containers, mounts, interfaces and its data. Raises EngineError."""
    await run_program(program, "reset", f"--data-dir={data_directory}", timeout=RESET_PATIENCE)
