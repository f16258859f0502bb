"""The program of a service: where it is on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path


def locate_program(name: str, places: Sequence[str], root: Path = Path("/")) -> str | None:
    """Return the path of a program: that in PATH, else the first of `places` (absolute paths) that can be run.

    Under another root than / PATH is not asked, since it is that of this machine.
    """
    found = shutil.which(name) if root == Path("/") else None
    paths = (str(root / place.lstrip("/")) for place in places)
    return found or next((path for path in paths if os.access(path, os.X_OK)), None)
