"""The command line. It exits with 1 and one sentence on failure, with 2 for a wrong flag or argument."""

from __future__ import annotations

import click

from kairos_core.cli.group import LazyGroup
from kairos_core.version import __version__


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Show where an error came from.")
@click.version_option(__version__, prog_name="kairos")
def kairos(verbose: bool) -> None:
    """One shared token on every machine, and a Kubernetes cluster grows by itself."""


def main() -> None:
    """Run the `kairos` command."""
    kairos(prog_name="kairos")
