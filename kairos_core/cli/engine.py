"""`kairos engine`: Kubernetes' service on this machine, whether or not the agent runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kairos_core.cli.columns import print_json, printable
from kairos_core.cli.options import config_option, json_option
from kairos_core.errors import ConfigError, ControlError

if TYPE_CHECKING:
    from kairos_core.interfaces import Engine, EngineService

_T = TypeVar("_T")

NO_ENGINE = "no Kubernetes engine is installed. Install kairos-engine-k3s, or another one."
NO_SERVICE = "there is no Kubernetes on this machine: no agent has started it yet, or the engine has no service."
UNTIL = "It stays so until: kairos engine start, or until the agent starts (at a boot, too) or gets another plan."

_engine_option = config_option(
    "Cloud-config that says which engine it is; may be repeated.  [default: that of the installed agent]"
)


@click.group()
def engine() -> None:
    """Look after Kubernetes' service on this machine."""


@engine.command("status")
@_engine_option
@json_option
def status(paths: tuple[Path, ...], as_json: bool) -> None:
    """Show the service, whether it runs, and the version of its program. `kairos status` says how Kubernetes does."""

    async def look(engine: Engine, service: EngineService) -> dict[str, object]:
        runs = await service.is_running()
        return {"service": service.name, "running": runs, "version": await engine.installed()}

    found = _with_service(paths, look)
    if as_json:
        print_json(found)
    else:
        version = printable(str(found["version"] or "the program is missing"))
        click.echo(f"service  {found['service']}: {'running' if found['running'] else 'stopped'}\nprogram  {version}")


@engine.command("logs")
@click.option("-n", "--lines", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Last lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines, until Ctrl-C.")
@_engine_option
def logs(lines: int, follow: bool, paths: tuple[Path, ...]) -> None:
    """Print the log of Kubernetes, without the secrets that Kairos knows of."""

    async def show(_: Engine, service: EngineService) -> None:
        async for line in service.log(lines, follow=follow):
            click.echo(printable(line.expandtabs()))

    with contextlib.suppress(KeyboardInterrupt):  # this is how one leaves
        _with_service(paths, show)


@engine.command("start")
@_engine_option
def start(paths: tuple[Path, ...]) -> None:
    """Start Kubernetes, as the agent has last configured it."""

    async def begin(_: Engine, service: EngineService) -> str:
        await service.start()
        return service.name

    click.echo(f"started {_with_service(paths, begin)}")


@engine.command("stop")
@_engine_option
def stop(paths: tuple[Path, ...]) -> None:
    """Stop Kubernetes on this machine. Its containers may go on."""

    async def end(_: Engine, service: EngineService) -> str:
        await service.stop()
        return service.name

    click.echo(f"stopped {_with_service(paths, end)}. {UNTIL}")


@engine.command("restart")
@_engine_option
def restart(paths: tuple[Path, ...]) -> None:
    """Stop Kubernetes and start it again."""

    async def renew(_: Engine, service: EngineService) -> str:
        await service.stop()
        await service.start()
        return service.name

    click.echo(f"restarted {_with_service(paths, renew)}")


def configured_engine(paths: Sequence[str | Path]) -> Engine | None:
    """Make the engine of this machine's configuration; where that cannot be read, the default one, with a warning.

    What an engine has made it knows from the disk, so a broken configuration must not keep anybody from stopping it.
    Raises PluginError.
    """
    from kairos_core.config import parse_config
    from kairos_core.runtime.assembly import make_engine
    from kairos_core.runtime.files import read_documents
    from kairos_core.runtime.plugins import load_plugins

    plugins = load_plugins()
    try:
        documents = read_documents([Path(path) for path in paths])
        config = parse_config(documents, plugins.sections()) if documents else None
    except ConfigError as error:
        click.echo(f"Warning: going on with the default engine, since {error}", err=True)
        config = None
    if config is not None and config.p2p is not None and config.p2p.plugins.disabled:
        plugins = load_plugins(config.p2p.plugins.disabled)
    return make_engine(config, plugins)


def _with_service(paths: Sequence[Path], work: Callable[[Engine, EngineService], Awaitable[_T]]) -> _T:
    """Do something with the service of this machine's engine. Raises KairosError."""
    made = configured_engine(paths or _installed_configs())
    if made is None:
        raise ControlError(NO_ENGINE)
    engine = made

    async def run() -> _T:
        service = await engine.service()
        if service is None:
            raise ControlError(NO_SERVICE)
        return await work(engine, service)

    return asyncio.run(run())


def _installed_configs() -> Sequence[str]:
    """Return what the installed service tells its agent to read; nothing where there is none."""
    from kairos_core.agent_service.init import installed_init, running_init
    from kairos_core.agent_service.installation import Installation

    init = running_init() or installed_init()
    agent = Installation(init, is_live=False).installed() if init else None
    return agent.configs if agent else ()
