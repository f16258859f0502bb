"""The program `k3s`, as far as the stand-in goes: server, agent, token rotate, kubectl, --version."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from kairos_core.testing.k3s import VERSION
from kairos_core.testing.k3s.flags import Options, UsageError
from kairos_core.testing.k3s.log import Fatal, log

_USAGE = f"""NAME:
   k3s - a stand-in for Kubernetes, small and simple; it runs no containers

USAGE:
   k3s server|agent [OPTIONS]
   k3s token rotate [--token TOKEN] [--new-token TOKEN]
   k3s kubectl get nodes [-o json|wide|name] | drain NAME | delete node NAME | get --raw PATH
   k3s --version

VERSION:
   {VERSION}
"""


def main() -> int:
    """Run the command line and return the exit code."""
    command, argv = (sys.argv[1:2] or ["help"])[0], sys.argv[2:]
    if command in ("--version", "-v"):
        print(f"k3s version {VERSION}")
        return 0
    if command == "kubectl":
        from kairos_core.testing.k3s.kubectl import kubectl

        root = Path(os.environ.get("KAIROS_STAND_IN_ROOT") or "/")
        return kubectl(argv, root / "etc/rancher/k3s/k3s.yaml")
    if [command, *argv[:1]] == ["token", "rotate"]:
        command, argv = "rotate", argv[1:]
    elif command not in ("server", "agent"):
        print(_USAGE)
        return 0 if command in ("help", "--help", "-h") else 1
    try:
        options = Options(command, argv, os.environ)
    except UsageError as error:
        print(f"Incorrect Usage: {error}\n\n{_USAGE}")
        log("fatal", f"Error: {error}")
        return 1
    return _run(command, options)


def _run(command: str, options: Options) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        if command == "server":
            from kairos_core.testing.k3s.server import Server

            Server(options, os.environ).run(stop)
        elif command == "rotate":
            from kairos_core.testing.k3s.rotation import rotate

            rotate(options, os.environ)
        else:
            from kairos_core.testing.k3s.agent import run_agent

            run_agent(options, os.environ, stop)
    except Fatal as error:
        log("fatal", str(error))
        return 1
    except OSError as error:
        log("fatal", f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
