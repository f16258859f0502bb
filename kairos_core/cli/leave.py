"""`kairos leave` takes this machine out for good; `kairos join` lets it take part again."""

from __future__ import annotations

import time
from pathlib import Path

import click

from kairos_core.api.client import ApiClient
from kairos_core.cli.columns import print_json, printable
from kairos_core.cli.options import api_option, json_option, state_option
from kairos_core.errors import ControlError

LOOK_AGAIN = 0.2
"""Seconds between looks at how far a machine is on its way out."""


@click.command()
@click.option("--force", is_flag=True, help="At once, without waiting for a master to take the machine out.")
@click.option("--timeout", default=300.0, show_default=True, help="Seconds to wait; leaving goes on after it.")
@api_option
@json_option
def leave(force: bool, timeout: float, api: str | None, as_json: bool) -> None:
    """Take this machine out of the cluster and the network for good.

    A master drains its node and deletes it, with its member of the datastore. Then Kubernetes and its data are removed
    from this machine, its address and whatever else it has in the ledger is given back, and it forgets who it was. It
    stays away, also after a reboot, until `kairos join`.
    """
    client = ApiClient(api)
    answer = client.post({"force": force}, "leave")
    _wait(client, time.monotonic() + timeout, is_quiet=as_json)
    if as_json:
        print_json(answer)
    else:
        click.echo("This machine has left. To remove the agent: kairos uninstall. To take part again: kairos join")


def _wait(client: ApiClient, deadline: float, *, is_quiet: bool) -> None:
    """Wait until the agent has ended, which it does when all is done; say what it waits for. Raises ControlError."""
    told = ""
    while True:
        try:
            status = client.get("status")
        except ControlError:
            return
        message = printable(status["me"]["message"])
        if time.monotonic() > deadline:
            raise ControlError(f"not out yet: {message}. It goes on; watch it: kairos status --watch")
        if message != told and not is_quiet:
            click.echo(message, err=True)
        told = message
        time.sleep(LOOK_AGAIN)


@click.command()
@state_option
def join(state: Path) -> None:
    """Let this machine take part again after it has left.

    It comes back as a new node, with the configuration that is there now.
    """
    from kairos_core.runtime.state import come_back

    if not come_back(state):
        raise ControlError(f"this machine has not left: there is no mark in {state}. See: kairos status")
    click.echo("This machine takes part again. If its agent does not run: kairos start")
