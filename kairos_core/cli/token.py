"""Commands that make a network token."""

from __future__ import annotations

import secrets

import click

from kairos_core.cli.output import print_json
from kairos_core.protocol.token import Token, format_token, new_token

_interval = click.argument("interval", type=click.IntRange(1, 2**63 - 1), default=3600)
_nodes = click.option(
    "--nodes",
    type=click.IntRange(1, 1999),
    metavar="N",
    help="Expected number of nodes. The token then carries the quorum N//2+1: so many votes decide who "
    "initialises the cluster, and with at most N nodes there are never two clusters.",
)


@click.command("generate-token", short_help="Make a network token and print it.")
@_interval
@_nodes
@click.option("--json", "as_json", is_flag=True, help="Print the token and its terms as JSON.")
def generate_token(interval: int, nodes: int | None, as_json: bool) -> None:
    """Make a network token and print it, and nothing else.

    Whoever holds the token is a member of the network. Its keys rotate every INTERVAL seconds (default 3600);
    the clocks of the nodes may differ by as much.
    """
    token = _token(interval, nodes)
    if as_json:
        quorum = token.kairos.quorum if token.kairos else None
        print_json({"token": format_token(token), "interval": interval, "quorum": quorum})
    else:
        click.echo(format_token(token))


@click.command("create-config", short_help="Print a cloud-config with a new token.")
@_interval
@_nodes
def create_config(interval: int, nodes: int | None) -> None:
    """Print a cloud-config with a new token: the one file that every machine gets.

    The keys of the token rotate every INTERVAL seconds (default 3600).
    """
    click.echo(f"#cloud-config\n\np2p:\n  network_token: {format_token(_token(interval, nodes))}")


def _token(interval: int, nodes: int | None) -> Token:
    return new_token(secrets.choice, interval, None if nodes is None else nodes // 2 + 1)
