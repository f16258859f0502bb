"""`kairos get-kubeconfig`: the way from a running network to kubectl."""

from __future__ import annotations

import click

from kairos_core.api.client import ApiClient
from kairos_core.cli.agent import api_option
from kairos_core.errors import ControlError


@click.command("get-kubeconfig")
@api_option
@click.option(
    "--network-id",
    envvar=["KAIROS_NETWORK_ID", "EDGEVPN_NETWORK_ID"],
    metavar="ID",
    help="Fail unless the agent is in this network ($KAIROS_NETWORK_ID, $EDGEVPN_NETWORK_ID).",
)
def get_kubeconfig(api: str | None, network_id: str | None) -> None:
    """Print the kubeconfig of the cluster."""
    client = ApiClient(api)
    if network_id:
        _check_network(client.get("status")["network_id"], network_id)
    click.echo(client.text("kubeconfig"), nl=False)


def _check_network(actual: str, wanted: str) -> None:
    if actual != wanted:
        advice = "Leave --network-id out, or ask an agent of that network with --api."
        raise ControlError(f"the agent is in network {actual!r}, not {wanted!r}. {advice}")
