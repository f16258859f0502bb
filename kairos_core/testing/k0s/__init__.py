"""A stand-in k0s: an executable with k0s' command line, files and refusals, and no containers.

Behind that front it is the stand-in k3s (`kairos_core.testing.k3s`): one API server per controller, nodes that beat,
state that controllers copy from each other. What it does not do beside what that does not do: k0s' own API on port 9443
(controllers join at the port of the API server), and tokens that can be invalidated.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

VERSION = "stand-in v1.0 (kairos_core.testing)"
"""What it calls itself in `k0s version`."""


def install_stand_in(directory: Path, root: Path = Path("/")) -> Path:
    """Write an executable `k0s` into a directory (made if missing) and return its path.

    `root` is put before k0s' paths (/etc/k0s, /var/lib/k0s), so that several can run on one machine; real k0s knows
    no such thing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "k0s"
    program.write_text(
        "#!/bin/sh\n"
        "# A stand-in for k0s, written by kairos_core.testing: it runs no containers.\n"
        f"export KAIROS_STAND_IN_ROOT={shlex.quote(str(root))}\n"
        f'exec {shlex.quote(sys.executable)} -m kairos_core.testing.k0s "$@"\n'
    )
    program.chmod(0o755)
    return program
