"""What somebody who helps needs to see of this machine, in one file without secrets."""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kairos_core.errors import ConfigError
from kairos_core.runtime.blotting import blotted

LINES = 5000
"""Lines of each log. Raising it shows more of the past, and makes the file larger by 150 bytes each."""

PATIENCE = 15.0
"""Seconds that a command has to say what it knows."""

COMMANDS: Mapping[str, Sequence[str]] = {
    "addresses.txt": ("ip", "-details", "address"),
    "routes.txt": ("ip", "route", "show", "table", "all"),
    "firewall.txt": ("nft", "list", "ruleset"),
    "sockets.txt": ("ss", "-tulpn"),
    "modules.txt": ("cat", "/proc/modules"),
    "cgroups.txt": ("cat", "/proc/cgroups"),
    "disks.txt": ("df", "-h"),
    "clock.txt": ("timedatectl",),
    "versions.txt": (sys.executable, "-m", "kairos_core.cli", "version"),
    "plugins.txt": (sys.executable, "-m", "kairos_core.cli", "plugins", "list"),
    "journal.txt": (
        "journalctl", "--no-pager", "--lines", str(LINES), "--unit", "kairos", "--unit", "k3s", "--unit", "k3s-agent",
        "--unit", "k0scontroller", "--unit", "k0sworker",
    ),
}  # fmt: skip
"""What is asked of this machine; a command that is not there is left out."""

LOGS = ("kairos", "k3s", "k3s-agent", "k0scontroller", "k0sworker")
"""Names of logs in /var/log, where no journal is kept."""


def write_bundle(target: Path, documents: Mapping[str, Any], secrets: Iterable[str], root: Path = Path("/")) -> None:
    """Write a compressed tar archive (0600) of documents (text, else as JSON), of what commands say, and of logs.

    Nothing leaves this machine by that. Raises ConfigError when the file is there already or cannot be written.
    """
    known = list(secrets)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{target} is there already. Name another file, or remove it.") from None
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}. Name another file.") from None
    with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in _members(documents, root):
            _add(archive, name, blotted(text, known))


def _members(documents: Mapping[str, Any], root: Path) -> Iterator[tuple[str, str]]:
    yield "machine.txt", f"{platform.platform()}\nPython {platform.python_version()}\n{time.ctime()}\n"
    for name, document in documents.items():
        yield name, document if isinstance(document, str) else json.dumps(document, indent=1, ensure_ascii=False)
    for name, command in COMMANDS.items():
        if (said := _said(command)) is not None:
            yield name, said
    for name in LOGS:
        log = root / "var/log" / f"{name}.log"
        if log.is_file():
            yield f"{name}.log", "\n".join(log.read_text(errors="replace").splitlines()[-LINES:])


def _said(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout + done.stderr


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode(errors="replace")
    member = tarfile.TarInfo(f"kairos-bundle/{name}")
    member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
    archive.addfile(member, io.BytesIO(content))
