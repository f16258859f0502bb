"""The command `demo`: a whole cluster on this machine, to look at and to measure."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from kairos_core.cli.output import print_table
from kairos_core.errors import ConfigError

if TYPE_CHECKING:
    from kairos_core.testing.demo import DemoResult, Progress
    from kairos_core.testing.lab import Lab

_SAYINGS = {
    "running": "all agents run",
    "discovered": "every node sees every other",
    "roles": "every node has a role",
    "vpn": "every pair pings over the VPN",
    "engine": "Kubernetes is ready on every node",
    "kubeconfig": "kubeconfig fetched through the bridge",
}


@click.command()
@click.option("--nodes", default=4, show_default=True, type=click.IntRange(1, 100), help="Machines to start.")
@click.option("--ha", default=0, type=click.IntRange(0, 99), help="Masters besides the first.")
@click.option(
    "--json", "file", type=click.File("w", lazy=False), help="Write the figures here (- for standard output)."
)
@click.option("--keep", is_flag=True, help="Leave the cluster running until Enter is pressed.")
@click.option("--timeout", default=90.0, show_default=True, type=click.FloatRange(1), help="Seconds to give up after.")
def demo(nodes: int, ha: int, file: Any, keep: bool, timeout: float) -> None:
    """Grow a cluster of namespaces on this machine.

    Starts real agents on machines made of Linux namespaces that share nothing but a new token, and shows how
    they find each other, elect, connect and start Kubernetes. Needs root, or a kernel that lets users make user
    namespaces. Everything it makes is gone at the end.
    """
    from kairos_core.testing.agents import Network
    from kairos_core.testing.demo import Wish, run_demo

    if ha >= nodes:
        raise ConfigError(f"--ha {ha} needs at least {ha + 1} nodes, not {nodes}. Raise --nodes.")

    async def present(lab: Lab, result: DemoResult) -> None:
        if file is None or file.name != "<stdout>":  # the figures alone, for a program to read
            _print_result(result)
        if file is not None:
            json.dump(result.document(), file, indent=2)
            file.write("\n")
            file.flush()
        if keep:
            await _wait_for_enter(lab)

    wish = Wish(Network.new(minimum_nodes=nodes, ha_masters=ha), nodes, timeout)
    _run(run_demo(wish, _Screen().show, present))


def _run(work: Coroutine[Any, Any, object]) -> None:
    """Run to the end, also on SIGTERM and Ctrl-C: they cancel, so that the lab is taken down.

    Both are handled here: whoever starts us in the background may have had SIGINT ignored for us.
    """
    received: list[signal.Signals] = []

    async def main() -> None:
        task = asyncio.ensure_future(work)

        def stop(number: signal.Signals) -> None:
            received.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        await task

    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        raise click.exceptions.Exit(128 + (received or [signal.SIGTERM])[0]) from None


class _Screen:
    """One line for each stage: live on a terminal, once it is done elsewhere. On standard error."""

    def __init__(self) -> None:
        self._is_live = sys.stderr.isatty()
        self._stages: dict[str, str] = {}
        self._done: set[str] = set()

    def show(self, progress: Progress) -> None:
        if progress.stage in self._done:
            return
        line = f"{progress.seconds:6.1f} s  {_SAYINGS[progress.stage]}"
        if progress.done == progress.total:
            self._done.add(progress.stage)
            self._print(line)
        elif self._is_live:
            self._stages[progress.stage] = f"{progress.stage} {progress.done}/{progress.total}"
            going = ", ".join(text for stage, text in self._stages.items() if stage not in self._done)
            click.echo(f"\r\x1b[K{progress.seconds:6.1f} s  … {going}", nl=False, err=True)

    def _print(self, line: str) -> None:
        click.echo(f"\r\x1b[K{line}" if self._is_live else line, err=True)


def _print_result(result: DemoResult) -> None:
    click.echo()
    rows = [(n.name, n.role, n.vpn_ip, "ready" if n.ready else "not ready") for n in result.nodes]
    print_table(("NODE", "ROLE", "ADDRESS", f"ENGINE ({result.engine})"), rows)
    click.echo()
    names = [node.name for node in result.nodes]
    print_table(("PING (ms)", *names), [(one, *(_cell(result, one, other) for other in names)) for one in names])
    click.echo(f"\n{result.kubeconfig.rstrip()}\n")
    click.echo("  ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.seconds.items()))


def _cell(result: DemoResult, one: str, other: str) -> str:
    if one == other:
        return "-"
    time = result.pings.get((one, other))
    return "lost" if time is None else f"{time:.2f}"


async def _wait_for_enter(lab: Lab) -> None:
    """Say how to enter the machines and wait. Not in a thread: Ctrl-C must end the wait at once."""
    user = "--user --preserve-credentials " if lab.rootless else ""
    for machine in lab.machines:
        click.echo(f"{machine.name}: nsenter -t {machine.pid} {user}--net --mount --uts --ipc --pid", err=True)
    click.echo("The cluster runs until you press Enter.", err=True)
    loop, pressed = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(sys.stdin, pressed.set)
    except PermissionError:
        click.echo("Standard input is a file: stop with Ctrl-C or SIGTERM.", err=True)
    await pressed.wait()
    loop.remove_reader(sys.stdin)
