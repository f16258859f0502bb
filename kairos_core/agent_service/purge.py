"""Removes all of Kairos from a machine: service, Kubernetes, and what agents left: identity, ledger, sockets, logs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kairos_core.agent_service.installation import Installation
from kairos_core.errors import ServiceError
from kairos_core.interfaces import Engine
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


@dataclass(frozen=True, slots=True)
class Remains:
    """All that there may be of Kairos on a machine."""

    installation: Installation | None
    engine: Engine | None
    state: Path
    run: Path
    logs: tuple[Path, ...] = ()


async def remove_all(remains: Remains) -> list[str]:
    """Remove it; return what was done, a phrase each. Doing it again, also after a failure, does what is left.

    The agent ends first, since it would start Kubernetes anew; then goes the engine, whose record is in the state; and
    last the service, which says where the state is.
    Raises KairosError.
    """
    done = remains.installation.stop() if remains.installation else []
    with without_agent(remains.state):
        if remains.engine is not None:
            has_run = await remains.engine.service() is not None
            await remains.engine.remove()
            done += ["removed Kubernetes and its data"] if has_run else []
        done += purge(remains.state, remains.run, remains.logs)
    return done + (remains.installation.uninstall(purge=True) if remains.installation else [])


@contextlib.contextmanager
def without_agent(state: Path) -> Iterator[None]:
    """Keep agents away from a state directory meanwhile. Raises StoreError when one uses it."""
    held = StateDirectory(state) if state.is_dir() else None
    try:
        yield
    finally:
        if held is not None:
            held.release()


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
