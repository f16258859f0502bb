"""Which supervisor this machine has."""

from __future__ import annotations

from pathlib import Path

from kairos_engine_k3s.child import Child
from kairos_engine_k3s.openrc import OpenRc
from kairos_engine_k3s.supervisor import Supervisor
from kairos_engine_k3s.systemd import Systemd


def detect_supervisor(root: Path = Path("/")) -> Supervisor:
    """Return the supervisor of the init system that runs, not of one that is merely installed.

    Source: sd_booted(3) for systemd; OpenRC keeps its state in /run/openrc.
    """
    if (root / "run/systemd/system").is_dir():
        return Systemd()
    if (root / "run/openrc").is_dir():
        return OpenRc(root)
    return Child(root)
