"""The program `k0s`, as far as the stand-in goes: controller, worker, token, kubeconfig, etcd, reset, version."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping

from kairos_core.testing.k0s import VERSION
from kairos_core.testing.k0s.flags import Options, UsageError, parse
from kairos_core.testing.k0s.places import Places, Refused, read_config

_USAGE = """k0s - a stand-in for the zero friction Kubernetes; it runs no containers

Usage:
  k0s controller|worker [join-token] [flags]
  k0s token create | kubeconfig admin | etcd member-list | etcd leave | reset | version
  k0s kubectl get nodes | drain NAME | delete node NAME
"""

OBJECTS = ("controlnode.autopilot.k0sproject.io",)
"""Kinds of k0s' own objects in a cluster. The stand-in has none of them."""


def main(argv: list[str]) -> int:
    """Run the command line and return the exit code."""
    command, rest = (argv[:1] or ["help"])[0], argv[1:]
    if command == "version":
        print(VERSION)
        return 0
    if command == "kubectl":
        from kairos_core.testing.k3s.kubectl import kubectl

        return kubectl(rest, Places.of(Options()).pki / "admin.conf", others=OBJECTS)
    run = _COMMANDS.get(command)
    if run is None:
        print(_USAGE)
        return 0 if command in ("help", "--help", "-h") else 1
    try:
        return run(parse(command, rest))
    except (UsageError, Refused) as error:
        print(f"Error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"Error: {error.filename}: {error.strerror}", file=sys.stderr)
    return 1


def _controller(options: Options) -> int:
    from kairos_core.testing.k0s.controller import run_controller

    return _serve(lambda stop: run_controller(options, stop))


def _worker(options: Options) -> int:
    from kairos_core.testing.k0s.worker import run_worker

    return _serve(lambda stop: run_worker(options, stop))


def _serve(run: Callable[[threading.Event], None]) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    run(stop)
    return 0


def _token(options: Options) -> int:
    from kairos_core.testing.k0s.tokens import create_token

    if options.words != ["create"]:
        raise UsageError(f'unknown command "{" ".join(options.words)}" for "k0s token"')
    return create_token(options)


def _kubeconfig(options: Options) -> int:
    from kairos_core.testing.k0s.tokens import api_url

    if options.words != ["admin"]:
        raise UsageError(f'unknown command "{" ".join(options.words)}" for "k0s kubeconfig"')
    places = Places.of(options)
    file = places.pki / "admin.conf"
    if not file.exists():
        raise Refused("failed to read admin config, is the control plane initialized on this node?")
    spec = read_config(places, options)
    local = f"https://localhost:{spec.get('api', {}).get('port', 6443)}"
    sys.stdout.write(file.read_text().replace(local, api_url(spec)))
    return 0


def _reset(options: Options) -> int:
    places = Places.of(options)
    if places.data.exists():
        shutil.rmtree(places.data)
    return 0


def _etcd(options: Options) -> int:
    from kairos_core.testing.k0s.members import etcd

    return etcd(options)


_COMMANDS: Mapping[str, Callable[[Options], int]] = {
    "controller": _controller,
    "worker": _worker,
    "token": _token,
    "kubeconfig": _kubeconfig,
    "etcd": _etcd,
    "reset": _reset,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
