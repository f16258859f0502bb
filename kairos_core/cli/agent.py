"""The options of all commands that ask the running agent."""

import click

api_option = click.option(
    "--api",
    metavar="ENDPOINT",
    help="Where the agent listens: unix:///PATH or http://HOST:PORT. "
    "Default: $KAIROS_API or $EDGEVPN_API, else /run/kairos/api.sock, else 127.0.0.1:8080.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
