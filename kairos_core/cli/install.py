"""`kairos install`: the agent as a service of this machine, or of an image that is being built."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kairos_core.cli.options import config_option, state_option
from kairos_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kairos_core.agent_service.init import Init
    from kairos_core.agent_service.installation import Outcome

HERE = Path("/")


@click.command()
@config_option(
    "Cloud-config file or directory; may be repeated.  [default: /etc/kairos and /oem, as they are at each start]"
)
@state_option
@click.option("--api", default="", help="Serve the API over TCP too, for example 127.0.0.1:8080.")
@click.option("--now/--no-now", default=True, show_default=True, help="Start it now, or only at the next boot.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    default=HERE,
    help="Install into the image in this directory; implies --no-now. All other paths are those in the image.",
)
def install(paths: tuple[Path, ...], state: Path, api: str, now: bool, root: Path) -> None:
    """Make the agent a service that starts at every boot.

    It is run by systemd or OpenRC, and from this very installation of Kairos. Checks the configuration first. Doing it
    again changes nothing; with other options it changes what differs and starts the agent afresh.
    """
    from kairos_core.agent_service.init import find_init, running_init
    from kairos_core.agent_service.installation import Installation
    from kairos_core.agent_service.parts import AgentService
    from kairos_core.agent_service.program import foreign_owner, program_in, running_program

    is_image = root != HERE
    now = now and not is_image
    init = find_init(root, must_run=now)
    configs = [_absolute(path, root, "--config") for path in paths]
    _check_configuration(configs, root, api)
    running = running_program(os.path.abspath(sys.argv[0]), sys.executable)
    service = AgentService(
        program=program_in(root, running),
        configs=tuple(map(str, configs)),
        state=str(_absolute(state, root, "--state")),
        api=api,
    )
    if owned := foreign_owner(running[0]):
        _warn(f"{owned} can be changed by others than root, who could so become root. Better: a venv in /opt.")
    is_live = not is_image and running_init() is not None
    outcome = Installation(init, root, is_live=is_live).install(service, now=now)
    _report(outcome, init, is_started=now and is_live)


def _absolute(path: Path, root: Path, option: str) -> Path:
    """Return a path as the service is told it. In an image the current directory means nothing. Raises ConfigError."""
    if root != HERE and not path.is_absolute():
        raise ConfigError(f"{option} {path}: with --root this is a path in the image, and must begin with a slash.")
    return Path(os.path.abspath(path))


def _check_configuration(configs: Sequence[Path], root: Path, api: str) -> None:
    """Refuse what `kairos start` would refuse: it would fail at every boot. Raises ConfigError."""
    from kairos_core.cli.start import Listening
    from kairos_core.config import parse_config
    from kairos_core.model import Verdict
    from kairos_core.runtime.assembly import network_block
    from kairos_core.runtime.exposure import public_documents, secrecy
    from kairos_core.runtime.files import DEFAULT_DIRECTORIES, read_documents
    from kairos_core.runtime.plugins import load_plugins

    Listening(Path(), api or None)
    places = [root / path.relative_to("/") for path in configs]
    documents = read_documents(places, [root / path.relative_to("/") for path in DEFAULT_DIRECTORIES])
    if not documents and root != HERE:
        _warn("the image has no configuration yet. The agent starts again and again until there is one.")
        return
    if not documents:
        raise ConfigError(
            "there is no configuration in /etc/kairos or /oem, so the agent would have nothing to run. Write one: "
            "kairos create-config > /etc/kairos/kairos.yaml, or name it with --config."
        )
    config = parse_config(documents, load_plugins().sections())
    for warning in config.warnings:
        _warn(warning)
    network_block(config)
    finding = secrecy(public_documents(documents), config)
    if finding.verdict is Verdict.WRONG:
        _warn(f"{finding.message}. Set: {finding.remedy}")


def _report(outcome: Outcome, init: Init, *, is_started: bool) -> None:
    for path in outcome.written:
        click.echo(f"wrote {path}")
    if outcome.started:
        click.echo(f"{outcome.started} the agent, under {init.name}. See: kairos status")
    elif outcome.owed:
        click.echo(
            "The agent runs as it was started before. Let it take the change: kairos install, with these options"
        )
    elif outcome.written:
        click.echo(f"The agent starts at the next boot, under {init.name}")
    elif not outcome.written:
        click.echo("nothing to change")


def _warn(message: str) -> None:
    click.echo(f"Warning: {message}", err=True)
