"""What a node keeps on disk beside the ledger: who it is, and what it has promised in the election.

identity             the Ed25519 seed, 32 bytes, 0600, created once
election-<cluster>   incarnation, promises, votes, intent; replaced atomically, with fsync, before it takes effect
voter-<cluster>      empty: this machine has taken part in that election, so a missing file of it is a lost memory
ledger/              the ledger store's own
left                 unix seconds: this machine has left for good; then there is nothing else
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kairos_core.cluster.durable import Durable, Leaving
from kairos_core.cluster.quorum import Ballot, Ballots, Decision, Recovery, Register
from kairos_core.errors import ProtocolError, StoreError
from kairos_core.protocol.entry import pack, unpack
from kairos_core.protocol.identity import Identity
from kairos_core.runtime.files import write_whole

DEFAULT_STATE = Path("/var/lib/kairos")
_LEFT, _LOCK = "left", "lock"


class StateDirectory:
    """The directory of one node's state. Made 0700; refused if it belongs to another running agent."""

    def __init__(self, path: Path) -> None:
        """Raises StoreError when it cannot be made or written."""
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(path)
        except OSError as error:
            raise StoreError(
                f"cannot make or write the state directory {path}: {error.strerror}. {_advice(error)}"
            ) from error

    def identity(self) -> Identity:
        """Return this machine's identity, made at the first call. Raises StoreError."""
        file = self.path / "identity"
        try:
            if not file.exists():
                write_whole(file, secrets.token_bytes(32))
            seed = file.read_bytes()
        except OSError as error:
            raise StoreError(f"cannot read or write {file}: {error.strerror}. Check its owner and the disk") from error
        if len(seed) != 32:
            raise StoreError(
                f"{file} has {len(seed)} bytes instead of 32: it is damaged. Restore it from a backup; if there is "
                "none, remove it, and this machine will come back as a new one"
            )
        return Identity(seed)

    def election(self, network: bytes, network_id: str) -> ElectionFile:
        """Return the file of one cluster's election: another token or network id is another election."""
        name = f"{network.hex()[:8]}-{network_id}"
        return ElectionFile(self.path / f"election-{name}.json", self.path / f"voter-{name}")

    def ledger_directory(self) -> Path:
        """Return the directory for the ledger store. Raises StoreError."""
        directory = self.path / "ledger"
        try:
            directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {directory}: {error.strerror}. {_advice(error)}") from error
        return directory

    def forget(self) -> None:
        """Forget who this machine was, and mark that it has left: it stays away until the mark is removed.

        A crash in between is no harm: what is left over is forgotten at the next start. Raises StoreError.
        """
        try:
            if not has_left(self.path):
                write_whole(self.path / _LEFT, f"{time.time():.0f}\n".encode())
            for file in self.path.iterdir():
                if file.is_dir() and not file.is_symlink():
                    shutil.rmtree(file)
                elif file.name not in (_LEFT, _LOCK):
                    file.unlink()
        except OSError as error:
            raise StoreError(
                f"cannot remove what is in {self.path}: {error.strerror}. Remove it yourself; the machine has left"
            ) from error

    def release(self) -> None:
        """Let another agent have the directory; this one must not use it any more. The end of the process does too."""
        os.close(self._lock)


def has_left(path: Path) -> bool:
    """Whether the machine with this state directory has left its network for good."""
    return (path / _LEFT).exists()


def come_back(path: Path) -> bool:
    """Take the mark away that a machine has left; say whether there was one. Raises StoreError."""
    try:
        (path / _LEFT).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"cannot remove {path / _LEFT}: {error.strerror}. {_advice(error)}") from error
    return True


class ElectionFile:
    """What this machine has promised in one election, on disk."""

    def __init__(self, file: Path, marker: Path) -> None:
        self._file, self._marker = file, marker

    def load(self) -> Durable:
        """Return what the election left here; a first start gets a new random incarnation.

        Where the file is gone although this machine took part before, it comes back as a voter without memory, which
        has to recover. Raises StoreError.
        """
        try:
            if not self._file.exists():
                self.save(_fresh(is_lost=self._marker.exists()))
            if not self._marker.exists():  # after the file: a crash in between is a first start, not a loss
                write_whole(self._marker, b"")
            return _decode(json.loads(self._file.read_text()))
        except (ValueError, KeyError, TypeError, ProtocolError) as error:
            raise StoreError(
                f"{self._file} is damaged ({error}). Restore it from a backup: without it this machine could vote "
                "twice. If there is none, remove this file alone: the machine then asks the others what it has promised"
            ) from error
        except OSError as error:
            raise StoreError(f"cannot read {self._file}: {error.strerror}. Check its owner and the disk") from error

    def save(self, durable: Durable) -> None:
        """Save with fsync; on return it survives a power cut. Raises StoreError."""
        try:
            write_whole(self._file, json.dumps(_encode(durable), indent=1).encode())
        except OSError as error:
            raise StoreError(
                f"cannot save {self._file}: {error.strerror}. Free some space, or check the disk"
            ) from error


def _fresh(*, is_lost: bool) -> Durable:
    incarnation = secrets.token_hex(16)
    if is_lost:
        return Durable(incarnation, Ballots(recovery=Recovery()), generation=0)
    return Durable(incarnation)


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space on its disk"
    return "Run as root, or set --state to a directory of yours"


def _lock(path: Path) -> int:
    """Hold the directory: two agents with one identity would vote twice."""
    import fcntl  # noqa: PLC0415 - Linux only, and only here

    handle = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StoreError(
            f"{path} is in use by another agent. Stop it first, or give this one another --state"
        ) from None
    return handle


def _encode(durable: Durable) -> dict[str, Any]:
    ballots = durable.ballots
    recovery = ballots.recovery
    return {
        "incarnation": durable.incarnation,
        "intent": durable.intent,
        "node_name": durable.node_name,
        "generation": durable.generation,
        "runs": durable.runs,
        "serves": durable.serves,
        "past": list(durable.past),
        "leaving": durable.leaving.value,
        "max_round": ballots.max_round,
        "register": pack(ballots.register.encode()).hex() if ballots.register else None,
        "decided": pack(ballots.decided.encode()).hex() if ballots.decided else None,
        "recovery": [recovery.barrier.encode().hex() if recovery.barrier else "", recovery.step] if recovery else None,
    }


def _decode(document: Mapping[str, Any]) -> Durable:
    register, decided, recovery = document["register"], document["decided"], document["recovery"]
    ballots = Ballots(
        register=Register.decode(*unpack(bytes.fromhex(register))) if register else None,
        max_round=int(document["max_round"]),
        decided=Decision.decode(unpack(bytes.fromhex(decided))) if decided else None,
        recovery=_decode_recovery(*recovery) if recovery else None,
    )
    return Durable(
        incarnation=str(document["incarnation"]),
        ballots=ballots,
        intent=document["intent"],
        node_name=document["node_name"],
        generation=int(document["generation"]),
        runs=document["runs"],
        serves=bool(document["serves"]),
        past=tuple(map(str, document["past"])),
        leaving=Leaving(document.get("leaving", "")),
    )


def _decode_recovery(barrier: str, step: int) -> Recovery:
    return Recovery(Ballot.decode(bytes.fromhex(barrier)) if barrier else None, int(step))
