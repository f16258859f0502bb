"""Takes k3s, and the images that it needs, from a file or directory of this machine. Blocking.

Source: docs.k3s.io, "Air-Gap Install": k3s imports what is in <data-dir>/agent/images when it starts.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

from kairos_core import Disk, EngineError
from kairos_engine_k3s.part import check_room
from kairos_engine_k3s.program import UnfitError
from kairos_engine_k3s.release import Assets, parse_sums


def program_in(source: Path | None, assets: Assets) -> Path | None:
    """Return the program of a source, which is one or holds one. None: there is no source, or it has none."""
    if source is None or not source.is_dir():
        return source
    return next((source / name for name in (assets.program, "k3s") if (source / name).is_file()), None)


def images_in(source: Path | None, assets: Assets) -> Path | None:
    """Return the archive of images in a source, None when it has none."""
    if source is None or not source.is_dir():
        return None
    return next((source / name for name in assets.images if (source / name).is_file()), None)


def copy_verified(file: Path, draft: Path, assets: Assets, stopped: threading.Event) -> None:
    """Copy a file of a release to a draft, which is on the disk then, or not there at all.

    A checksum file beside the original is honoured. Raises UnfitError for a damaged one, EngineError otherwise.
    """
    expected = _expected(file, assets)
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        check_room(draft.parent, file.stat().st_size)
        found = _copy(file, draft, stopped)
    except OSError as error:
        _discard(draft)
        raise EngineError(
            f"cannot copy {file} to {draft.parent}: {error.strerror}. "
            "Set k3s.install.source to a k3s binary, or to a directory that holds one, or its images."
        ) from None
    except EngineError:
        _discard(draft)
        raise
    if expected not in (None, found):
        _discard(draft)
        raise UnfitError(
            f"{file} is damaged: its SHA-256 is {found}, {assets.sums} beside it says {expected}. "
            "Copy both files again."
        )


def copy_images(archive: Path, data_directory: str, disk: Disk, assets: Assets, stopped: threading.Event) -> None:
    """Put an archive of images where k3s imports it; that of another release that we put there goes.

    An archive of the same name that the operator put there stays. Raises EngineError.
    """
    target = f"{data_directory}/agent/images/{archive.name}"
    ours, path = disk.state().images, disk.path(target)
    draft = path.with_name(f".{path.name}.new")
    try:
        if path.exists() and (ours != target or _is_same(archive, path)):
            return
        copy_verified(archive, draft, assets, stopped)
        times = archive.stat()
        os.utime(draft, ns=(times.st_atime_ns, times.st_mtime_ns))
        disk.remember(images=target, running="")  # k3s imports when it starts
        draft.replace(path)
    except OSError as error:
        _discard(draft)
        raise EngineError(f"cannot put {archive} into {path.parent}: {error.strerror}. Is it read-only?") from None
    if ours and ours != target:
        disk.remove(ours)


def _is_same(archive: Path, copy: Path) -> bool:
    """Compare as k3s itself does, to import again only what has changed: by size and time."""
    one, other = archive.stat(), copy.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def _expected(file: Path, assets: Assets) -> str | None:
    sums = file.with_name(assets.sums)
    try:
        return parse_sums(sums.read_text(errors="replace")).get(file.name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise EngineError(f"cannot read {sums}: {error.strerror}. Copy it again, or remove it.") from None


def _copy(file: Path, draft: Path, stopped: threading.Event) -> str:
    digest = hashlib.sha256()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as output, file.open("rb") as original:
        while chunk := original.read(1 << 20):
            if stopped.is_set():
                raise EngineError("the copy was stopped with the agent.")
            digest.update(chunk)
            output.write(chunk)
        output.flush()
        os.fsync(output.fileno())
    return digest.hexdigest()


def _discard(draft: Path) -> None:
    with contextlib.suppress(OSError):
        draft.unlink()
