"""One machine of the lab: its own network, host name, process tree and disk; the code is the host's."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path

from kairos_core.testing.lab.link import Link, ipv4_of, ipv6_of
from kairos_core.testing.lab.namespaces import LabError, Namespaces, Output, run
from kairos_core.testing.lab.process import Process

_INIT = Path(__file__).with_name("machine.sh")


class Machine:
    """A machine that can be switched on and off and runs programs. Made by `Lab.add`.

    Private are /etc/kairos, /etc/rancher, /var/lib/kairos, /var/lib/rancher, /var/log (the disk, which survives
    a power cut), the rest of /etc and /var/lib (kept until the power is cut), /run, /proc and /sys. All else,
    /tmp too, is the host's.
    """

    def __init__(self, name: str, link: Link, directory: Path, environment: Mapping[str, str]) -> None:
        self.name, self.link, self.directory = name, link, directory
        self.ipv4, self.ipv6 = ipv4_of(link.host), ipv6_of(link.host)
        self.machine_id = secrets.token_hex(16)
        self._environment = dict(environment)
        self._namespaces: Namespaces | None = None
        self._processes: list[Process] = []
        for part in ("disk", "scratch", "log"):
            (directory / part).mkdir(parents=True)

    def __repr__(self) -> str:
        return f"Machine({self.name}, {self.ipv4})"

    @property
    def pid(self) -> int:
        """The machine's first process, as seen from outside. Raises LabError when it is off."""
        return self._on.pid

    def path(self, inside: str) -> Path:
        """Return where a file of the machine (`/var/lib/kairos/x`) is seen from outside the lab."""
        return Path(f"/proc/{self.pid}/root{inside}")

    async def power_on(self) -> None:
        """Start the machine with the disk it had and plug it in. Raises LabError."""
        if self._namespaces is not None:
            return
        hub = self.link.hub
        unshare = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        init = ["sh", str(_INIT), self.name, self.machine_id, str(self.directory)]
        self._namespaces = await Namespaces.make(
            [*hub.enter("pid"), "--", *unshare, "--", *init], rootless=hub.rootless
        )
        await self.link.wire(self._namespaces)

    async def power_off(self) -> None:
        """Cut the power: every process dies at once, the disk stays."""
        if self._namespaces is not None:
            await self._namespaces.close(at_once=True)
            self._namespaces = None
        await asyncio.gather(*(process.wait() for process in self._processes))
        self._processes.clear()

    async def start(self, *command: str, env: Mapping[str, str] | None = None, log: str = "") -> Process:
        """Start a program; its output goes to the log of this name (default: the program's)."""
        file = self.directory / "log" / f"{log or Path(command[0]).name}.log"
        process = await Process.spawn(self._enter(), command, file, {**self._environment, **(env or {})})
        self._processes.append(process)
        return process

    async def run(
        self, *command: str, check: bool = True, env: Mapping[str, str] | None = None, timeout: float = 30.0
    ) -> Output:
        """Run a program to its end. Raises LabError when it takes longer, or (`check`) when it fails."""
        variables = {**self._environment, **(env or {})}
        output = await run([*self._enter(), *command], env=variables, timeout=timeout)
        if check and output.code:
            said = " ".join((output.stderr or output.stdout).split())
            raise LabError(f"{self.name}: {Path(command[0]).name} failed ({output.code}): {said or 'without a word'}")
        return output

    @property
    def _on(self) -> Namespaces:
        if self._namespaces is None:
            raise LabError(f"{self.name} is switched off")
        return self._namespaces

    def _enter(self) -> list[str]:
        return [*self._on.enter("net", "mount", "uts", "ipc", "pid"), "--wd=/", "--"]
