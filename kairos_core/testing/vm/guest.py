"""Programs and files in a virtual machine, by QEMU's guest agent: it needs no network there."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kairos_core.testing.lab import LabError, Output
from kairos_core.testing.vm.channel import Channel

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}

LOOK = 0.25
"""Seconds between two looks whether a program has ended. Less costs a machine without KVM its processor."""


class Guest:
    """The inside of one machine, as soon as it has booted."""

    def __init__(self, name: str, socket: Path) -> None:
        self.name = name
        self._channel = Channel(socket)

    async def wait(self, timeout: float) -> None:
        """Wait until the machine has booted so far that it answers. Raises LabError."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                await self._channel.open()
                # Not one long wait: what is sent while a machine resets may be lost.
                await self._channel.synchronise(min(10.0, timeout))
                return
            except LabError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    def close(self) -> None:
        self._channel.close()

    async def run(
        self, command: Sequence[str], *, env: Mapping[str, str], stdin: bytes = b"", timeout: float
    ) -> Output:
        """Run a program to its end. Raises LabError when it takes longer than `timeout`."""
        variables = [f"{name}={value}" for name, value in {**ENVIRONMENT, **env}.items()]
        request: dict[str, Any] = {
            "path": command[0],
            "arg": list(command[1:]),
            "env": variables,
            "capture-output": True,
        }
        if stdin:
            request["input-data"] = base64.b64encode(stdin).decode()
        started = await self._channel.ask("guest-exec", **request)
        deadline = time.monotonic() + timeout
        while True:
            status = await self._channel.ask("guest-exec-status", pid=started["pid"])
            if status["exited"]:
                # By a signal there is no exit code.
                code = status["exitcode"] if "exitcode" in status else -status.get("signal", 0)
                return Output(code, _text(status.get("out-data")), _text(status.get("err-data")))
            if time.monotonic() > deadline:
                await self._channel.ask("guest-exec", path="kill", arg=["-KILL", str(started["pid"])])
                raise LabError(f"{self.name}: {command[0]} did not end within {timeout:g} s")
            await asyncio.sleep(LOOK)

    async def reboot(self) -> None:
        """Ask systemd to reboot; returns at once."""
        await self._channel.ask("guest-exec", path="systemctl", arg=["reboot", "--no-wall"], env=_pairs())


def _pairs() -> list[str]:
    return [f"{name}={value}" for name, value in ENVIRONMENT.items()]


def _text(encoded: str | None) -> str:
    return base64.b64decode(encoded or "").decode(errors="replace")
