"""A file that is not whole yet: `.k3s.<version>.part`, and beside it what the server called its content."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from kairos_core import EngineError

_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)\Z")


class Part:
    """An open part. For its owner only, until somebody has verified it; one process at a time writes it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._file = open(descriptor, "r+b", buffering=0)  # noqa: SIM115 - `close` does
        self._tag = path.with_name(path.name + ".tag")
        self.size = self._file.seek(0, os.SEEK_END)
        self.is_resumed = self.size > 0

    def headers(self) -> dict[str, str]:
        """Return what asks for the rest: only if the server still has the same content. Source: RFC 9110, 13.1.5."""
        if not self.size:
            return {}
        tag = self._tag.read_text(errors="replace") if self._tag.exists() else None
        return {"Range": f"bytes={self.size}-"} | ({"If-Range": tag} if tag and _is_strong(tag) else {})

    def resume(self, content_range: str | None) -> bool:
        """Go on with an answer, if it begins where this part ends."""
        match = _RANGE.match(content_range or "")
        self.is_resumed = match is not None and int(match[1]) == self.size
        return self.is_resumed

    def restart(self, tag: str | None = None) -> None:
        """Throw away what has come. A tag that is weak, or none, leaves it to the checksum to find a mixture."""
        self._file.truncate(0)
        self.size, self.is_resumed = self._file.seek(0), False
        self._tag.unlink(missing_ok=True)
        if tag and _is_strong(tag):
            self._tag.write_text(tag)

    def append(self, chunk: bytes) -> None:
        """Write a piece at the end."""
        view = memoryview(chunk)
        while view:
            written = self._file.write(view)
            self.size += written
            view = view[written:]

    def digest(self) -> str:
        """Return the SHA-256 of what is on the disk."""
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()

    def finish(self) -> None:
        """Bring it to the disk: it is whole."""
        os.fsync(self._file.fileno())
        self._tag.unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete it."""
        self.path.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, and let others write it."""
        self._file.close()


def _is_strong(tag: str) -> bool:
    """Say whether a tag may be compared; one that a power cut has spoilt may not even be sent."""
    return tag.startswith('"') and tag.isascii() and tag.isprintable()


@contextlib.contextmanager
def opened_part(path: Path) -> Iterator[Part]:
    """Open a part, an empty one if there is none. Raises EngineError, also for what its user cannot write."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Part(path, _opened(path))
        try:
            yield part
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                part.discard()  # others need the disk too
            raise
        finally:
            part.close()
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}. Is the disk full, or read-only?") from None


def _opened(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(descriptor, 0o600)
    except BlockingIOError:
        os.close(descriptor)
        raise EngineError(f"another process writes {path}. Is a second agent running on this machine?") from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def remove_parts(directory: Path, but: Path | None = None) -> None:
    """Remove what unfinished installations have left in a directory, but for the part that goes on."""
    for path in (*directory.glob(".k3s.*.part"), *directory.glob(".k3s.*.part.tag"), directory / ".k3s.new"):
        if but is None or not path.name.startswith(but.name):
            with contextlib.suppress(OSError):  # whoever writes there next says what is amiss
                path.unlink()


def check_room(directory: Path, length: int) -> None:
    """Raise EngineError if so many bytes would fill the disk, which others need too."""
    free = shutil.disk_usage(directory).free
    if length > free:
        raise EngineError(
            f"the disk of {directory} has no room: {length >> 20} MB are needed, {free >> 20} MB are free. Make room."
        )
