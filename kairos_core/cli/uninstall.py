"""`kairos uninstall`: this machine without the agent's service, and with --purge without anything of it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kairos_core.errors import ControlError

if TYPE_CHECKING:
    from kairos_core.agent_service.installation import Installation
    from kairos_core.agent_service.parts import AgentService

WHAT_IT_DOES = """\
This removes from this machine, for good:
- the agent's service, and the agent's identity, promises and ledger in {state};
- Kubernetes, its containers and its data. If this is the cluster's only master, the cluster is lost.
It keeps your configuration, which holds the network token, the pods' local volumes, and Kairos' program."""

HERE = Path("/")


@click.command()
@click.option("--purge", is_flag=True, help="Remove the agent's state and Kubernetes too, for good.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="State directory to purge.  [default: that of the installed service, else /var/lib/kairos]",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    default=HERE,
    help="Remove the service from the image in this directory; not with --purge.",
)
def uninstall(purge: bool, yes: bool, state: Path | None, root: Path) -> None:
    """Remove the agent's service from this machine.

    Kubernetes goes on, and identity and ledger stay, so that an agent that is installed again is the same node. With
    --purge they go too. Doing it again changes nothing.
    """
    from kairos_core.agent_service.init import installed_init, running_init
    from kairos_core.agent_service.installation import Installation

    if purge and root != HERE:
        raise click.UsageError("--purge is for this machine: an image has no state and no Kubernetes yet.")
    running = running_init() if root == HERE else None
    init = running or installed_init(root)
    installation = Installation(init, root, is_live=running is not None) if init else None
    agent = installation.installed() if installation else None
    state = (state or Path(agent.state if agent else "/var/lib/kairos")).absolute()
    if purge and not yes:
        _confirm(state)
    if purge:
        done = _purge(installation, agent, state, Path(init.log) if init and init.log else None)
    else:
        done = installation.uninstall(purge=False) if installation else []
    click.echo("\n".join(done) if done else "nothing to remove")
    if done and not purge and root == HERE:
        click.echo("Kubernetes and the agent's state stay. To stop Kubernetes: kairos engine stop")


def _confirm(state: Path) -> None:
    """Say what is about to happen, and ask. Raises ControlError unless the answer is yes."""
    click.echo(WHAT_IT_DOES.format(state=state), err=True)
    if not click.confirm("Remove it?", default=False, err=True):
        raise ControlError("nothing was changed. To remove all without being asked, use --yes.")


def _purge(installation: Installation | None, agent: AgentService | None, state: Path, log: Path | None) -> list[str]:
    """Remove all that is there. Raises KairosError."""
    from kairos_core.agent_service.purge import Remains, remove_all
    from kairos_core.cli.engine import configured_engine
    from kairos_core.cli.start import DEFAULT_RUN
    from kairos_core.runtime.state import DEFAULT_STATE

    engine = configured_engine(agent.configs if agent else ())
    done = asyncio.run(remove_all(Remains(installation, engine, state, DEFAULT_RUN, (log,) if log else ())))
    with contextlib.suppress(OSError):  # with another --state only the engine's record was in it
        DEFAULT_STATE.rmdir()
    return done
