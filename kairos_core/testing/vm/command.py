"""Programs of the host that make disks: run to their end, and their words kept for when they fail."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from kairos_core.testing.lab import LabError


def must(*argv: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program that has to succeed and return its standard output. Raises LabError with its last words."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise LabError(f"{words[0]} failed ({done.returncode}): {said or 'without a word'}")
    return done.stdout
