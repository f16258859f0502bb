"""Writes the files and links of a service, and removes them again. A file of another owner is set aside meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from kairos_core.agent_service.parts import MARK, File, Link, Part
from kairos_core.errors import ServiceError

ASIDE = ".before-kairos"


class Disk:
    """The file system under a root: that of this machine, or of an image."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return where an absolute path is under the root."""
        return self.root / name.lstrip("/")

    def differing(self, parts: Iterable[Part]) -> tuple[Part, ...]:
        """Return the parts that are not on disk as they should be. Raises ServiceError."""
        return tuple(part for part in parts if not self._is_there(part))

    def write(self, part: Part) -> None:
        """Make a part as it should be. It never exists half written, nor with a wider mode. Raises ServiceError."""
        path = self.path(part.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not isinstance(part, File):
                _replace_link(path, part.target)
            elif part.yours and path.is_file():
                path.chmod(part.mode)
            else:
                self._set_aside(path)
                _replace_file(path, part)
        except OSError as error:
            raise _refused("write", path, error) from None

    def remove(self, part: Part, *, also_yours: bool) -> list[str]:
        """Remove a part and bring back what was there before it; return what was done, a phrase each.

        A file that is the operator's goes when nobody has changed it, or when `also_yours`. Raises ServiceError.
        """
        path = self.path(part.path)
        before = path.with_name(path.name + ASIDE)
        try:
            if not os.path.lexists(path) or not (_is_ours(path, part) or (also_yours and _is_yours(part))):
                return []
            path.unlink()
            if not before.exists():
                return [f"removed {path}"]
            before.rename(path)
        except OSError as error:
            raise _refused("remove", path, error) from None
        return [f"removed {path}, and put back the one that was there before"]

    def read(self, name: str) -> str:
        """Return the text of a file, nothing when there is none. Raises ServiceError."""
        try:
            return self.path(name).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise _refused("read", self.path(name), error) from None

    def _is_there(self, part: Part) -> bool:
        path = self.path(part.path)
        try:
            if not isinstance(part, File):
                return _leads(path, part)
            if path.is_symlink() or path.stat().st_mode & 0o7777 != part.mode:
                return False
            return part.yours or path.read_text() == part.content
        except (FileNotFoundError, UnicodeDecodeError):
            return False
        except OSError as error:
            raise _refused("read", path, error) from None

    def _set_aside(self, path: Path) -> None:
        """Keep what somebody else has put there: a unit written by hand, say, or the mask of `systemctl mask`."""
        if os.path.lexists(path) and (path.is_symlink() or MARK not in path.read_text(errors="replace")):
            path.rename(path.with_name(path.name + ASIDE))


def _is_ours(path: Path, part: Part) -> bool:
    if not isinstance(part, File):
        return _leads(path, part)
    if part.yours:
        return path.read_text(errors="replace") == part.content
    return not path.is_symlink() and MARK in path.read_text(errors="replace")


def _is_yours(part: Part) -> bool:
    return isinstance(part, File) and part.yours


def _leads(path: Path, link: Link) -> bool:
    """Say whether a link leads where it should, also one that systemctl or rc-update wrote with another path."""
    if not path.is_symlink():
        return False
    return os.path.normpath(os.path.join(os.path.dirname(link.path), os.readlink(path))) == link.target


def _replace_link(path: Path, target: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(path)


def _replace_file(path: Path, file: File) -> None:
    draft = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, file.mode)
        with open(descriptor, "w") as output:
            os.fchmod(descriptor, file.mode)
            output.write(file.content)
            output.flush()
            os.fsync(descriptor)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _refused(verb: str, path: Path, error: OSError) -> ServiceError:
    advice = "Run as root." if isinstance(error, PermissionError) else "Check the disk, and whether it is read-only."
    return ServiceError(f"cannot {verb} {path}: {error.strerror}. {advice}")
