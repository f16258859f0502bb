"""The agent of a virtual machine: a service of systemd, as on the machines of those who use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kairos_core.testing.lab import LabError
from kairos_core.testing.vm.machine import VirtualMachine

UNIT = "kairos.service"
SOCKET = "/run/kairos/api.sock"
STAND_IN = (
    "from pathlib import Path\n"
    "from kairos_core.testing.k3s import install_stand_in\n"
    "install_stand_in(Path('/usr/local/bin'))\n"
)


class VirtualAgent:
    """The agent of one machine: as `kairos install` makes it a service, or run by `unit`, a systemd unit."""

    def __init__(self, machine: VirtualMachine, unit: str | None = None) -> None:
        self.machine, self.name = machine, machine.name
        self._unit = unit

    async def install(self, cloud_config: str) -> None:
        """Write the configuration and the unit, and give the machine the stand-in for k3s."""
        await self.machine.run("python3", "-c", STAND_IN)
        await self.machine.write("/etc/kairos/kairos.yaml", cloud_config, 0o600)
        if self._unit is None:
            await self.machine.run("kairos", "install", "--no-now", timeout=120.0)
            return
        await self.machine.write(f"/etc/systemd/system/{UNIT}", self._unit)
        await self.machine.run("systemctl", "daemon-reload")

    async def start(self) -> None:
        """Start it now and at every boot."""
        await self.machine.run("systemctl", "enable", "--now", UNIT)

    async def status(self) -> Mapping[str, Any] | None:
        """Return what the agent says of itself, None while it does not answer. Raises LabError when it has ended."""
        return await self.ask("status")

    async def ask(self, *path: str) -> Mapping[str, Any] | None:
        """Return what its API gives at a path like `"networks", "vpn"`, None while it does not answer.

        Raises LabError when it has ended.
        """
        # Not `kairos status`: starting Python would cost a machine without KVM more than the answer.
        url = "/".join(("http://kairos/api/v1", *path))
        asked = await self.machine.run("curl", "-s", "-f", "-m", "20", "--unix-socket", SOCKET, url, check=False)
        if asked.code == 0:
            answer: Mapping[str, Any] = json.loads(asked.stdout)
            return answer
        state = (await self.machine.run("systemctl", "is-failed", UNIT, check=False)).stdout.strip()
        if state == "failed":
            raise LabError(f"the agent of {self.name} has ended:\n{await self.machine.journal(UNIT)}")
        return None
