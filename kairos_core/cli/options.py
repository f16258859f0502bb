"""The options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

api_option = click.option(
    "--api",
    metavar="ENDPOINT",
    help="Where the agent listens: unix:///PATH or http://HOST:PORT. "
    "Default: $KAIROS_API or $EDGEVPN_API, else /run/kairos/api.sock, else 127.0.0.1:8080.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

state_option = click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/kairos"),
    show_default=True,
    help="Directory of this node's identity and ledger.",
)


def config_option(help: str) -> Callable[[_F], _F]:
    """Return the option that names cloud-config files, for the parameter `paths`: a tuple, empty where none is named.

    `help` says what they are for, and what is read without them.
    """
    return click.option("--config", "-c", "paths", multiple=True, type=click.Path(path_type=Path), help=help)
