"""`kairos cluster`: what an operator decides for the cluster as a whole."""

from __future__ import annotations

import click

from kairos_core.api.client import ApiClient
from kairos_core.cli.columns import print_json, printable
from kairos_core.cli.options import api_option, json_option
from kairos_core.errors import ControlError

WHAT_IT_DOES = """\
This gives up the cluster {cluster} (generation {generation}) and lets the nodes decide on a new, empty one:
- all nodes of the network stop taking roles in the old cluster and elect a new first master;
- workers leave the old cluster and join the new one; what ran on them ends;
- the data of the old cluster stays on its masters, untouched; a master of it that comes back waits for you.
It is right when the only master is lost for good, with its disk. If it can be repaired, start it again instead."""


@click.group()
def cluster() -> None:
    """Give up a lost cluster, or join the other of two."""


@cluster.command("new-generation")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also while a master of the cluster lives and is ready.")
@api_option
@json_option
def new_generation(yes: bool, force: bool, api: str | None, as_json: bool) -> None:
    """Give up the cluster and let the nodes decide on a new one: for a sole master that is lost for good."""
    client = ApiClient(api)
    if not yes:
        _confirm(client)
    answer = client.post({"force": force}, "cluster", "new-generation")
    if as_json:
        print_json(answer)
    else:
        click.echo(f"Generation {answer['generation']} begins. Watch it: kairos status --watch")


def _confirm(client: ApiClient) -> None:
    """Say what is about to happen, and ask. Raises ControlError unless the answer is yes."""
    status = client.get("status")
    names = {"cluster": printable(status["cluster_id"] or "(none yet)"), "generation": status["generation"]}
    click.echo(WHAT_IT_DOES.format(**names), err=True)
    if not click.confirm("Give it up?", default=False, err=True):
        raise ControlError("nothing was changed. To give the cluster up without being asked, use --yes.")


@cluster.command("adopt")
@click.argument("cluster_id", metavar="CLUSTER")
@api_option
@json_option
def adopt(cluster_id: str, api: str | None, as_json: bool) -> None:
    """Let this machine give up the cluster it has, and join CLUSTER: `kairos doctor` names it.

    What runs here in the old cluster ends; data that a master of it has on disk stays there.
    """
    answer = ApiClient(api).post({"cluster_id": cluster_id}, "cluster", "adopt")
    if as_json:
        print_json(answer)
    else:
        click.echo(f"This machine joins {printable(answer['cluster_id'])}. Watch it: kairos status --watch")
