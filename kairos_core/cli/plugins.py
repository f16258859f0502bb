"""Commands about plugins: what is installed and used, and the beginning of a new one."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kairos_core.cli.options import config_option, json_option
from kairos_core.cli.output import print_json, print_table
from kairos_core.cli.table import ALIASES, COMMANDS
from kairos_core.errors import PluginError

if TYPE_CHECKING:
    from kairos_core.config import Config
    from kairos_core.runtime.loader import Record
    from kairos_core.runtime.plugins import Plugins

KINDS = ("discovery", "transport", "ledger_store", "network", "engine", "commands")


@click.group()
def plugins() -> None:
    """List the installed plugins, or begin a new one."""


@plugins.command("list")
@config_option("Cloud-config file or directory that decides what is chosen; may be repeated.  [default: none]")
@json_option
def list_plugins(paths: tuple[Path, ...], as_json: bool) -> None:
    """List what the installed plugins offer, and which of it a node would use.

    STATE is loaded, failed, refused (by the plugin itself) or disabled (by the configuration); REASON says why.
    """
    from kairos_core.runtime.plugins import load_plugins

    installed = load_plugins()
    config = _config(paths, installed)
    if config.p2p and config.p2p.plugins.disabled:
        installed = load_plugins(config.p2p.plugins.disabled)
    rows, warnings = _rows(installed, config)
    for warning in (*installed.warnings, *warnings):
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        print_json(rows)
    else:
        header = ("kind", "name", "distribution", "version", "state", "chosen", "reason")
        cells = [[str(row[column]) for column in header[:-2]] for row in rows]
        marks = [["yes" if row["chosen"] else "", str(row["reason"])] for row in rows]
        print_table([column.upper() for column in header], [a + b for a, b in zip(cells, marks, strict=True)])


def _config(paths: tuple[Path, ...], installed: Plugins) -> Config:
    from kairos_core.config import parse_config
    from kairos_core.protocol.token import format_token, new_token
    from kairos_core.runtime.files import read_documents

    if paths:
        return parse_config(read_documents(paths), installed.sections())
    text = f"p2p: {{network_token: {format_token(new_token(secrets.choice))}}}"
    return parse_config([("the default configuration", text)], installed.sections())


def _rows(installed: Plugins, config: Config) -> tuple[list[dict[str, str | bool]], list[str]]:
    from kairos_core.runtime.choice import chosen_names
    from kairos_core.runtime.offers import Kind

    used: set[tuple[str, str]] = set()
    warnings = []
    for kind in Kind:
        try:
            names = chosen_names(kind, config, config.p2p, installed) if config.p2p else ()
            used |= {(kind.value, name) for name in names}
        except PluginError as error:
            warnings.append(str(error))
    rows = [_row(record, (record.kind, record.name) in used) for record in installed.records]
    return sorted(rows, key=lambda row: (_rank(str(row["kind"])), str(row["name"]))), warnings


def _row(record: Record, is_used: bool) -> dict[str, str | bool]:
    row: dict[str, str | bool] = {
        "kind": record.kind,
        "name": record.name,
        "plugin": record.plugin,
        "distribution": record.distribution,
        "version": record.version,
        "state": record.state,
        "chosen": is_used and record.state == "loaded",
        "reason": record.reason,
    }
    if record.kind == "commands" and (record.name in COMMANDS or record.name in ALIASES):
        return {**row, "chosen": False, "reason": "a built-in command has this name"}
    return row


def _rank(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


@plugins.command("new")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path))
def new_plugin(kind: str, name: str, directory: Path) -> None:
    """Write a plugin project into DIRECTORY that offers a KIND under NAME.

    It installs and is listed at once; its test runs the conformance check of its kind, and passes when the
    plugin does what the check asks for.
    """
    from kairos_core.cli.scaffold import write_project

    for path in write_project(kind, name, directory):
        click.echo(str(path))
