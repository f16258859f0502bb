"""Which configuration files show the network token to every user of the machine."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path


def exposed_files(documents: Iterable[tuple[str, str]], token: str) -> list[str]:
    """Return the names of the documents (name and text) that hold the token and that everybody may read."""
    return [name for name, text in documents if _holds(text, token) and _is_public(Path(name))]


def _holds(text: str, token: str) -> bool:
    """Say whether a text holds the token, in one line or folded as YAML may."""
    return bool(token) and token in "".join(text.split())


def _is_public(path: Path) -> bool:
    """Say whether others may read a file. Directories above it that nobody may enter are not counted on."""
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o004)
    except OSError:
        return False
