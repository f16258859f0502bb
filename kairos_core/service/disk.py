"""Writes what a service needs, and remembers what it wrote so that it can be changed and undone.

The memory is `state.json` in the engine's state directory. Files that were there before and that we did not write
are kept beside as `<name>.before-kairos` and come back when ours go.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kairos_core.errors import EngineError
from kairos_core.service.definition import File, Home
from kairos_core.service.environment import parse_environment

_ASIDE = ".before-kairos"


@dataclass(frozen=True, slots=True)
class DiskState:
    """What we made on this machine; `running` digests the files that the service was last started with."""

    service: str = ""
    running: str = ""
    files: tuple[str, ...] = ()
    data_directory: str = ""
    kubeconfig: str = ""
    health_port: int = 0  # where the kubelet says how it is; 0 where that was not noted
    program: str = ""  # where we installed the program; empty when it was there
    images: str = ""  # the archive of images that we copied for it to import


class Disk:
    """The file system under a root, as far as one engine writes it."""

    def __init__(self, home: Home, root: Path = Path("/")) -> None:
        self.root, self._home, self._record = root, home, f"{home.state}/state.json"

    def path(self, name: str) -> Path:
        """Return where an absolute path is under the root."""
        return self.root / name.lstrip("/")

    def state(self) -> DiskState:
        """Return what we made; an empty record when there is none. Raises EngineError for a damaged one."""
        file = self.path(self._record)
        try:
            saved = json.loads(file.read_text())
            return DiskState(**saved | {"files": tuple(saved["files"])})
        except FileNotFoundError:
            return DiskState()
        except PermissionError:
            raise EngineError(f"the record of what was installed, {file}, is for root alone. Run as root.") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise EngineError(
                f"the record of what was installed, {file}, cannot be read ({type(error).__name__}). "
                "Remove the file: what it names is then written again."
            ) from None

    def environment(self) -> dict[str, str]:
        """Return what the service of the record is given in its environment, secrets too. Raises EngineError."""
        texts = [self.read(name) or "" for name in self.state().files if name.endswith(".env")]
        return {name: value for text in texts for name, value in parse_environment(text).items()}

    def remember(self, **changes: Any) -> DiskState:
        """Change fields of the record; it survives a crash. Raises TypeError for an unknown field."""
        state = replace(self.state(), **changes)
        self.write(File(self._record, json.dumps(asdict(state), indent=1) + "\n", 0o600))
        return state

    def converge(self, files: Iterable[File]) -> None:
        """Make these files, with this content and mode, and remove ours that are no longer wanted.

        Raises EngineError.
        """
        wanted = {file.path: file for file in files}
        ours = self.state().files
        # The record comes first: after a crash in the middle, what was written is still known as ours.
        self.remember(files=tuple(dict.fromkeys([*ours, *wanted])))
        for name in ours:
            if name not in wanted:
                self.remove(name)
        for file in wanted.values():
            if not self._is_written(file):
                if file.path not in ours:
                    self._set_aside(file.path)
                self.write(file)
        self.remember(files=tuple(wanted))

    def remove(self, name: str) -> None:
        """Remove a file of ours, and bring back what was there before it. Raises EngineError."""
        path = self.path(name)
        try:
            path.unlink(missing_ok=True)
            before = path.with_name(path.name + _ASIDE)
            if before.exists():
                before.rename(path)
        except OSError as error:
            raise EngineError(f"cannot remove {path}: {error.strerror}.") from None

    def keep_aside(self, name: str) -> None:
        """Keep a file under a second name until `remove` brings it back; it stays in its place. Raises OSError."""
        path = self.path(name)
        aside = path.with_name(path.name + _ASIDE)
        aside.unlink(missing_ok=True)
        os.link(path, aside, follow_symlinks=False)

    def forget(self) -> None:
        """Remove what is left of ours at the end: the service's log, the record, and directories that nobody else uses.

        What the record names must be gone by then. Raises EngineError.
        """
        service = self.state().service
        for name in (f"/var/log/{service}.log", f"/var/log/{service}.log.1") if service else ():
            self.remove(name)
        self.remove(self._record)
        for directory in (self._home.settings, self._home.state):
            with contextlib.suppress(OSError):
                self.path(directory).rmdir()

    def read(self, name: str) -> str | None:
        """Return the text of a file, None when there is none. Raises EngineError."""
        try:
            return self.path(name).read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise EngineError(f"cannot read {self.path(name)}: {error}.") from None

    def _is_written(self, file: File) -> bool:
        path = self.path(file.path)
        try:
            return path.stat().st_mode & 0o7777 == file.mode and path.read_text() == file.content
        except (OSError, UnicodeDecodeError):
            return False

    def _set_aside(self, name: str) -> None:
        path = self.path(name)
        if path.exists():
            path.rename(path.with_name(path.name + _ASIDE))

    def write(self, file: File) -> None:
        """Replace a file atomically; it never exists with a wider mode, nor half written. Raises EngineError.

        It is not in the record: whoever writes a file alone removes it alone.
        """
        path = self.path(file.path)
        draft = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, file.mode)
            with open(descriptor, "w") as output:
                os.fchmod(descriptor, file.mode)
                output.write(file.content)
                output.flush()
                os.fsync(descriptor)
            draft.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise EngineError(f"cannot write {path}: {error.strerror}. Is the disk full?") from None
