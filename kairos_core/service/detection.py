"""Which supervisor this machine has."""

from __future__ import annotations

from pathlib import Path

from kairos_core.service.child import Child
from kairos_core.service.definition import Home
from kairos_core.service.openrc import OpenRc
from kairos_core.service.supervisor import Supervisor
from kairos_core.service.systemd import Systemd


def detect_supervisor(home: Home, root: Path = Path("/")) -> Supervisor:
    """Return the supervisor of the init system that runs, not of one that is merely installed.

    Source: sd_booted(3) for systemd; OpenRC keeps its state in /run/openrc.
    """
    if (root / "run/systemd/system").is_dir():
        return Systemd()
    if (root / "run/openrc").is_dir():
        return OpenRc(home, root)
    return Child(home, root)
