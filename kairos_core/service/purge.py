"""Deletes what agents have left on this machine: identity, promises of the election, ledger, sockets, logs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from kairos_core.errors import ServiceError
from kairos_core.runtime.state import DEFAULT_STATE, StateDirectory

_STATE = (
    "identity",
    "election-*.json",
    "voter-*",
    "ledger",
    "lock",
    "vpn-*.sock",
    ".identity.*",
    ".election-*",
    ".voter-*",
)
"""What an agent and the plugins of this repository make in a state directory."""

_RUN = ("api.sock", "api.token")


def require_no_agent(state: Path) -> None:
    """See that no agent uses a state directory, from now until this process ends. Raises StoreError when one does."""
    if state.is_dir():
        StateDirectory(state)


def purge(state: Path, run: Path, logs: tuple[Path, ...] = ()) -> list[str]:
    """Delete an agent's state, sockets and logs; return what was done, a phrase each. Raises ServiceError.

    The default state directory is Kairos' own, and goes as a whole. Another may be shared with somebody else's files:
    of it goes what agents make, and the directory once it is empty.
    """
    done: list[str] = []
    for path in (*_own(state, _STATE, is_whole=state == DEFAULT_STATE), *_own(run, _RUN), *logs):
        if path.exists() or path.is_symlink():
            _delete(path)
            done.append(f"removed {path}")
    for directory in (state, run):
        if directory.is_dir() and not directory.is_mount():
            with contextlib.suppress(OSError):  # somebody else has files there: a bridge, say
                directory.rmdir()
                done.append(f"removed {directory}")
    if state.is_dir() and any(state.iterdir()):
        done.append(f"left {state}: it holds what no agent has made")
    return done


def _own(directory: Path, patterns: tuple[str, ...], *, is_whole: bool = False) -> Iterator[Path]:
    if directory.is_dir():
        for pattern in ("*",) if is_whole else patterns:
            yield from sorted(directory.glob(pattern))


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise ServiceError(f"cannot delete {path}: {error.strerror}. Is something still using it?") from None
