"""Telling systemd that the service is ready, or stops. Without systemd nothing happens."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress

VARIABLE = "NOTIFY_SOCKET"
PATIENCE = 1.0
"""Seconds that the service manager has to make room for a message. Raising it may hold up the agent for that long."""


class Notifier:
    """Speaks to the service manager that started this process: one datagram a message. Source: sd_notify(3).

    It takes the address out of the environment: a program that we start must not speak for us.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop(VARIABLE, "")

    def ready(self, status: str) -> None:
        """Say that the service does its work now, and with a sentence what it is doing."""
        self._send(f"READY=1\nSTATUS={' '.join(status.split())}")

    def stopping(self) -> None:
        """Say that the service is on its way out."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address.startswith(("/", "@")):  # none, or a socket of a virtual machine (AF_VSOCK)
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        # Nobody hears it: then the service manager says so, when its patience ends.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):
            sender.settimeout(PATIENCE)
            sender.connect(address)
            sender.sendall(message.encode())
