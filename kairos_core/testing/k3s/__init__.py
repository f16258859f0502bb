"""A stand-in k3s: an executable with k3s' command line, files, ports and refusals, and no containers.

It lets a cluster be formed and broken where the real k3s cannot run or be downloaded. It listens with TLS
where k3s listens, writes `node-token` and `k3s.yaml` where k3s writes them, admits agents and servers only
with the right token, and keeps its state across restarts. It says "stand-in" wherever it names itself. What
it does not do: run pods, serve more of the Kubernetes API than nodes and health, or elect (its servers copy
each other's state).
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

VERSION = "stand-in v1.0 (kairos_core.testing)"
"""What it calls itself in `k3s --version`, in the node list and in its log."""


def install_stand_in(directory: Path, root: Path = Path("/")) -> Path:
    """Write an executable `k3s` into a directory (made if missing) and return its path.

    `root` is put before k3s' default paths (/etc/rancher, /var/lib/rancher), so that several can run on one
    machine; real k3s knows no such thing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "k3s"
    program.write_text(
        "#!/bin/sh\n"
        "# A stand-in for k3s, written by kairos_core.testing: it runs no containers.\n"
        f"export KAIROS_STAND_IN_ROOT={shlex.quote(str(root))}\n"
        f'exec {shlex.quote(sys.executable)} -m kairos_core.testing.k3s "$@"\n'
    )
    program.chmod(0o755)
    return program
