"""Files of this machine: cloud-config files are read, others written whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from kairos_core.config.composer import MAX_TEXT
from kairos_core.errors import ConfigError

DEFAULT_DIRECTORIES = (Path("/etc/kairos"), Path("/oem"))
"""Where configuration is looked for when none is named; `/oem` is where Kairos' installer leaves it."""

_SUFFIXES = frozenset((".yaml", ".yml"))
_NAMES = frozenset(("cloud-config",))


def read_documents(paths: Sequence[Path] = (), defaults: Sequence[Path] = DEFAULT_DIRECTORIES) -> list[tuple[str, str]]:
    """Read files, and the configuration files of directories, as (name, text) in the order of merging.

    Of a directory, `*.yaml`, `*.yml` and `cloud-config` are read in lexical order. Without paths the default
    directories are read, as far as they exist. Raises ConfigError for a path that is not there, cannot be
    read, is no text, or is too large.
    """
    return [(str(file), _text(file)) for file in _files(paths, defaults)]


def write_whole(file: Path, content: bytes) -> None:
    """Write, fsync, rename, fsync the directory: a reader sees the old file or the new one, never half of it.

    The new file has the mode 0600. Raises OSError.
    """
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _files(paths: Sequence[Path], defaults: Sequence[Path]) -> Iterator[Path]:
    for path in paths or [directory for directory in defaults if directory.is_dir()]:
        if path.is_dir():
            yield from _directory(path)
        else:
            yield path


def _directory(directory: Path) -> list[Path]:
    try:
        return sorted(
            entry
            for entry in directory.iterdir()
            if (entry.suffix in _SUFFIXES or entry.name in _NAMES)
            and not entry.name.startswith(".")
            and entry.is_file()
        )
    except OSError as error:
        raise ConfigError(f"the directory {directory} cannot be read: {error.strerror}. {_advice(error)}") from None


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_TEXT + 1)
    except OSError as error:
        raise ConfigError(f"the file {file} cannot be read: {error.strerror}. {_advice(error)}") from None
    if len(raw) > MAX_TEXT:
        raise ConfigError(f"the file {file} has more than {MAX_TEXT} bytes. Is it a cloud-config? Name another file.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the file {file} is not UTF-8 text: byte {error.start + 1} does not fit. Save it as UTF-8."
        ) from None


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "Run as root, or let this user read it."
    return "Check the path." if isinstance(error, FileNotFoundError) else "Name another one."
