"""`kairos status` and `kairos uuid`: what this machine is, and what it sees."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from kairos_core.api.client import ApiClient
from kairos_core.cli.columns import format_columns, print_json, printable
from kairos_core.cli.options import api_option, json_option
from kairos_core.errors import ControlError

STATE_DIRECTORY = Path("/var/lib/kairos")
INTERVAL = 2.0
"""Seconds between two looks of --watch."""


@click.command()
@api_option
@json_option
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
def status(api: str | None, as_json: bool, watch: bool) -> None:
    """Show this node and its network."""
    client = ApiClient(api)
    if not watch:
        _show(client.get("status"), as_json)
        return
    try:
        _watch(client, as_json)
    except KeyboardInterrupt:
        return  # this is how one leaves


def _watch(client: ApiClient, as_json: bool) -> None:
    shown = None
    while True:
        now = client.get("status")
        if now != shown:
            if as_json:
                print_json(now, indent=None)
            else:
                click.clear()
                _show(now, as_json)
            shown = now
        time.sleep(INTERVAL)


def _show(status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(status)
    else:
        click.echo(format_status(status))


def format_status(status: dict[str, Any]) -> str:
    """Lay out a status (as /api/v1/status gives it) for people."""
    me = status["me"]
    facts = [
        ("node", f"{me['name']} ({me['peer']})"),
        ("network", status["network_id"]),
        ("phase", f"{status['phase']}: {me['message']}" if me["message"] else status["phase"]),
        ("cluster", _cluster(status)),
        ("guarantee", status["guarantee"]),
        ("ledger", f"{status['entries']} entries, digest {status['digest']}"),
        ("milestones", _milestones(status["milestones"])),
        *((name, _figures(figures)) for name, figures in status["networks"].items()),
        ("dropped", ", ".join(f"{name} {count}" for name, count in sorted(status["drops"].items()) if count)),
    ]
    lines = [f"{name:<11} {printable(text)}" for name, text in facts if text]
    lines += [f"{'warning':<11} {printable(warning)}" for warning in status["warnings"]]
    return "\n".join([*lines, "", _machines(status)])


def _cluster(status: dict[str, Any]) -> str:
    name, generation = status["cluster_id"] or "none yet", status["generation"]
    return str(name) if generation == 1 else f"{name} (generation {generation})"


def _machines(status: dict[str, Any]) -> str:
    rows = [
        (
            machine["name"] + (" *" if machine["peer"] == status["me"]["peer"] else ""),
            machine["peer"][-8:],
            machine["role"] or ("operator" if machine["kind"] == "operator" else ""),
            machine["address"],
            machine["engine"],
            "yes" if machine["alive"] else "no",
            machine["message"],
        )
        for machine in status["machines"]
    ]
    return format_columns(("NODE", "PEER", "ROLE", "ADDRESS", "ENGINE", "ALIVE", "MESSAGE"), rows)


def _figures(figures: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in figures.items())


def _milestones(milestones: dict[str, float]) -> str:
    """Show each milestone in seconds since the start."""
    started = milestones.get("started")
    if started is None:
        return ""
    later = sorted((when, name) for name, when in milestones.items() if name != "started")
    return ", ".join(f"{name} after {when - started:.1f} s" for when, name in later)


@click.command()
@api_option
@json_option
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Read the identity from this state directory, and ask no agent. Without an agent: {STATE_DIRECTORY}.",
)
def uuid(api: str | None, as_json: bool, state: Path | None) -> None:
    """Print the peer id of this machine."""
    peer = _stored_peer(state) if state else _peer(api)
    if as_json:
        print_json({"peer": peer})
    else:
        click.echo(peer)


def _peer(api: str | None) -> str:
    """Ask the agent; where none runs, and none was named, look at the state directory."""
    try:
        return str(ApiClient(api).get("status")["me"]["peer"])
    except ControlError as error:
        if api or not (STATE_DIRECTORY / "identity").exists():
            raise
        try:
            return _stored_peer(STATE_DIRECTORY)
        except ControlError as second:
            raise ControlError(f"{error} And {second}") from None


def _stored_peer(directory: Path) -> str:
    from kairos_core.protocol.identity import Identity

    path = directory / "identity"
    try:
        seed = path.read_bytes()
    except OSError as error:
        advice = "An agent makes it when it first starts; reading it needs root."
        raise ControlError(f"cannot read the identity {path}: {error.strerror}. {advice}") from None
    if len(seed) != 32:
        raise ControlError(f"the identity {path} has {len(seed)} bytes, expected 32: restore it from a backup.")
    return str(Identity(seed).peer_id)
