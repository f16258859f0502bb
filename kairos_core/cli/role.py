"""`kairos role`: what each node does, and what it should do."""

from __future__ import annotations

import click

from kairos_core.api.client import ApiClient
from kairos_core.cli.columns import format_columns, print_json
from kairos_core.cli.options import api_option, json_option
from kairos_core.model import Role

_FIELDS = ("name", "peer", "role", "address", "alive")


@click.group()
def role() -> None:
    """List and set the roles of nodes."""


@role.command("list")
@api_option
@json_option
def list_roles(api: str | None, as_json: bool) -> None:
    """List the nodes with their roles."""
    machines = [machine for machine in ApiClient(api).get("machines") if machine["kind"] != "operator"]
    rows = [{field: machine[field] for field in _FIELDS} for machine in machines]
    if as_json:
        print_json(rows)
        return
    table = [[*list(row.values())[:-1], "yes" if row["alive"] else "no"] for row in rows]
    click.echo(format_columns(("NODE", "PEER", "ROLE", "ADDRESS", "ALIVE"), table))


@role.command("set")
@click.argument("node")
@click.argument("wish", metavar="ROLE", type=click.Choice([*map(str, Role), "auto"]))
@api_option
@json_option
def set_role(node: str, wish: str, api: str | None, as_json: bool) -> None:
    """Set the role of NODE: a peer id, its last eight characters, or a machine's name.

    ROLE is master, master/clusterinit, master/ha, worker, none, or auto to let the network decide.
    """
    answer = ApiClient(api).put({"role": wish}, "roles", node)
    if as_json:
        print_json(answer)
    elif wish == "auto":
        click.echo(f"The network decides the role of {answer['peer']}.")
    else:
        click.echo(f"{answer['peer']} is to be {wish}.")
