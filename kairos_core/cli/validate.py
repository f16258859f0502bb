"""`kairos validate` and `kairos schema`: is this file right, and what may stand in it?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kairos_core.cli.output import print_json
from kairos_core.errors import ConfigError


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE|DIRECTORY]...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Check cloud-config files; without any, those of /etc/kairos and /oem.

    Several files are merged in the order given, those of a directory in the order of their names. Prints
    what is wrong, each fault on one line with file and line number, and ends with 1 then.
    """
    from kairos_core.config import parse_config
    from kairos_core.runtime.files import read_documents
    from kairos_core.runtime.plugins import load_plugins

    names: list[str] = []
    errors: list[str] = []
    warnings: tuple[str, ...] = ()
    try:
        documents = read_documents(files)
        names = [name for name, _ in documents]
        if not documents:
            raise ConfigError("there is no configuration in /etc/kairos or /oem. Name the files to check.")
        warnings = parse_config(documents, load_plugins().sections()).warnings
    except ConfigError as error:
        errors = str(error).splitlines()
    if as_json:
        result = {"valid": not errors, "files": names, "errors": errors, "warnings": warnings}
        print_json(result)
    else:
        _print(errors, warnings)
    sys.exit(1 if errors else 0)


def _print(errors: list[str], warnings: tuple[str, ...]) -> None:
    for error in errors:
        click.echo(f"Error: {error}", err=True)
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    if not errors:
        click.echo("valid")


@click.command()
def schema() -> None:
    """Print the JSON schema of the configuration, with the sections of the installed plugins.

    Point an editor to it: write it to a file, and begin the cloud-config with
    `# yaml-language-server: $schema=FILE`.
    """
    from kairos_core.config import config_schema
    from kairos_core.runtime.plugins import load_plugins

    print_json(config_schema(load_plugins().sections()))
