"""`kairos start` runs a node; `kairos bridge` joins the network as an operator."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from kairos_core.cli.options import config_option, state_option

if TYPE_CHECKING:
    from kairos_core.agent_service.notify import Notifier
    from kairos_core.config import Config
    from kairos_core.runtime.node import Node
    from kairos_core.runtime.plugins import Plugins

Documents: TypeAlias = Sequence[tuple[str, str]]
"""Cloud-config files: name and text."""

DEFAULT_RUN = Path("/run/kairos")

LOOK_FOR_RETURN = 2.0
"""Seconds between looks whether a machine that has left is to take part again."""

_run_dir_option = click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default=DEFAULT_RUN,
    show_default=True,
    help="Directory of the API socket.",
)


@click.command()
@config_option("Cloud-config file or directory; may be repeated.  [default: /etc/kairos and /oem]")
@state_option
@_run_dir_option
@click.option("--api", help="Serve the API over TCP too, for example 127.0.0.1:8080.")
def start(paths: tuple[Path, ...], state: Path, run_dir: Path, api: str | None) -> None:
    """Run this machine's node: find peers, take a role, start Kubernetes."""
    from kairos_core.runtime.files import read_documents
    from kairos_core.runtime.plugins import load_plugins

    plugins = load_plugins()
    config = _read_config(lambda: read_documents(paths), plugins)
    disabled = config.p2p.plugins.disabled if config.p2p else ()
    if disabled:
        plugins = load_plugins(disabled)
    _run(config, plugins, state, "node", Listening(run_dir, api))


@click.command()
@click.option(
    "--token",
    "--network-token",
    "token",
    envvar=["KAIROS_TOKEN", "EDGEVPNTOKEN"],
    help="The network token; better kept out of the command line: set KAIROS_TOKEN, or --config.",
)
@config_option("Cloud-config file of the nodes, instead of --token.")
@click.option("--network-id", default=None, help="Which cluster, where several share the token.  [default: kairos]")
@click.option("--address", default=None, help="A fixed VPN address such as 10.1.0.254/24.  [default: a free one]")
@click.option("--interface", default=None, help="Name of the tunnel interface.  [default: kairos0]")
@click.option("--peer", "peers", multiple=True, help="HOST:PORT of a node, where it cannot be discovered.")
@click.option("--api", default="127.0.0.1:8080", show_default=True, help="Where to serve the API.")
@_run_dir_option
@click.option("--log-level", default="info", show_default=True)
def bridge(  # noqa: PLR0913, PLR0917 - one parameter for each option
    token: str | None, paths: tuple[Path, ...], network_id: str | None, address: str | None, interface: str | None,
    peers: tuple[str, ...], api: str, run_dir: Path, log_level: str,
) -> None:  # fmt: skip
    """Join the network as an operator: reach every node, and get the kubeconfig."""
    from kairos_core.errors import ConfigError
    from kairos_core.runtime.files import read_documents
    from kairos_core.runtime.plugins import load_plugins

    if not token and not paths:
        raise ConfigError("bridge needs the network token: give --token, set KAIROS_TOKEN, or name the nodes' --config")
    p2p: dict[str, object] = {"loglevel": log_level, "role": ""}
    vpn: dict[str, object] = {}
    if token:
        p2p["network_token"] = token
    if network_id:
        p2p["network_id"] = network_id
    if peers:
        p2p["peers"] = list(peers)
    if interface:
        vpn["interface"] = interface
    if address:
        vpn["env"] = {"ADDRESS": address, "DHCP": "false"}
    flags = json.dumps({"p2p": {**p2p, **({"vpn": vpn} if vpn else {})}}, ensure_ascii=False)  # JSON is YAML
    plugins = load_plugins()
    config = _read_config(lambda: [*(read_documents(paths) if paths else ()), ("the flags of bridge", flags)], plugins)
    with ExitStack() as stack:
        # An operator leaves nothing behind: a new identity each time, so that no two laptops ever share one. It
        # lies in memory (/run), so that not even a power cut leaves a key on the disk.
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-", dir=run_dir)))
        _run(config, plugins, state, "operator", Listening(run_dir, api))


def _read_config(documents: Callable[[], Documents], plugins: Plugins) -> Config:
    """Read the configuration in a process that ends: what checks it takes 15 MB, and is not needed again.

    Meanwhile this one imports what a node is made of. Raises ConfigError.
    """
    from kairos_core.runtime.apart import Apart

    def read() -> Config:
        from kairos_core.config import parse_config

        return parse_config(documents(), plugins.sections())

    reading = Apart(read)
    import kairos_core.api.server
    import kairos_core.runtime.node  # noqa: F401

    return reading.result()


class Listening:
    """Where the API of this process listens."""

    def __init__(self, run_dir: Path, tcp: str | None) -> None:
        """Raises ConfigError."""
        from kairos_core.errors import ConfigError
        from kairos_core.model import Address

        self.run_dir = run_dir
        try:
            self.tcp = Address.parse(tcp) if tcp else None
        except ValueError as error:
            raise ConfigError(f"--api: {error}") from None


def _run(config: Config, plugins: Plugins, state: Path, kind: str, listening: Listening) -> None:
    from kairos_core.agent_service.notify import Notifier
    from kairos_core.api.server import Listen, serving
    from kairos_core.runtime.inspection import NodeControl
    from kairos_core.runtime.node import Node

    _set_up_logging(config.p2p.loglevel if config.p2p else "info")
    notifier = Notifier()
    _stay_away(state, notifier)
    for warning in config.warnings:
        logging.getLogger("kairos").warning("%s", warning)
    node = Node(config, plugins, state, kind)
    tcp = (listening.tcp.host, listening.tcp.port) if listening.tcp else None
    listen = Listen(listening.run_dir / "api.sock", tcp, listening.run_dir / "api.token")

    async def serve(running: Node) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with serving(NodeControl(running), listen):
            logging.getLogger("kairos").info("%s is running as %s", kind, running.pump.me)
            notifier.ready(f"{kind} {running.pump.me}; see: kairos status")
            await stop.wait()
            notifier.stopping()

    try:
        asyncio.run(node.run(serve))
    except ExceptionGroup as group:
        raise _first(group) from group
    if node.has_left:
        _stay_away(state, notifier)


def _stay_away(state: Path, notifier: Notifier) -> None:
    """Wait while the machine has left for good: to end would only have the init system start us again."""
    from kairos_core.runtime.state import has_left

    if not has_left(state):
        return
    logging.getLogger("kairos").warning("this machine has left its network. To let it take part again: kairos join")
    notifier.ready("has left its network; to let it take part again: kairos join")
    while has_left(state):
        time.sleep(LOOK_FOR_RETURN)
    # As a new process: the configuration may be another one by now, perhaps of another network.
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the program that runs now


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """Return the first error of a group: the one that made the others stop."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _set_up_logging(level: str, stream: object = None) -> None:
    """Log to stderr, one line each; under systemd the journal has the time already."""
    stamp = "" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s "
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format=f"{stamp}%(levelname).1s %(message)s", force=True
    )
    for noisy in ("zeroconf", "uvicorn", "asyncio", "pyroute2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


__all__: Sequence[str] = ("bridge", "start")
