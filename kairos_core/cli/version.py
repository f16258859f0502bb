"""The command that prints versions."""

from __future__ import annotations

import platform
import sqlite3
import ssl
from importlib.metadata import entry_points

import click

from kairos_core.cli.options import json_option
from kairos_core.cli.output import print_json
from kairos_core.version import __version__


@click.command(short_help="Print the versions of Kairos and what it runs on.")
@json_option
def version(as_json: bool) -> None:
    """Print the versions of Kairos and what it runs on: plugins, Python, OpenSSL, SQLite, kernel."""
    versions = {
        "kairos-core": __version__,
        **dict(sorted((p.dist.name, p.dist.version) for p in entry_points(group="kairos.plugins") if p.dist)),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "sqlite": sqlite3.sqlite_version,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if as_json:
        print_json(versions)
        return
    for name, text in versions.items():
        click.echo(f"{name} {text}")
