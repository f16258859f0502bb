"""`kairos vpn`: how the VPN does, and its stock WireGuard peers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from kairos_core import ApiClient, ControlError, api_option, format_columns, json_option, print_json
from kairos_net_vpn import wgquick

_FIGURES = {"interface": "interface", "address": "address", "port": "UDP port", "mtu": "MTU", "peers": "peers",
            "sessions": "sessions", "bytes_sent": "bytes sent", "bytes_received": "bytes received"}  # fmt: skip


@click.group()
def vpn() -> None:
    """Show the VPN, and admit stock WireGuard peers."""


@vpn.command("status")
@api_option
@json_option
def show_status(api: str | None, as_json: bool) -> None:
    """Show this node's end of the VPN."""
    state = _state(api)
    if as_json:
        print_json({name: value for name, value in state.items() if name != "members"})
        return
    rows = [(label, state[name]) for name, label in _FIGURES.items()]
    rows += [("path", ", ".join([*state["path"]["offloads"], state["path"]["cipher"]]))] if state["path"] else []
    rows += [("dropped", _pairs(state["drops"]) or "nothing")]
    click.echo("\n".join(f"{label:<14} {value}" for label, value in rows))


@vpn.command("peers")
@api_option
@json_option
def show_peers(api: str | None, as_json: bool) -> None:
    """List the peers of this node: state, endpoint, path and its MTU, last handshake, bytes, drops."""
    state = _state(api)
    if as_json:
        print_json(state["members"])
        return
    rows = [
        (
            each["name"] + (" (guest)" if each["kind"] == "guest" else ""),
            ", ".join(each["addresses"]),
            each["state"],
            each["endpoint"],
            " ".join(str(part) for part in (each["path"], each["path_mtu"]) if part),
            "never" if each["handshake"] is None else f"{each['handshake']:.0f} s ago",
            each["sent"],
            each["received"],
            each["dropped"],
        )
        for each in state["members"]
    ]
    click.echo(
        format_columns(
            ("PEER", "ADDRESS", "STATE", "ENDPOINT", "PATH", "HANDSHAKE", "SENT", "RECEIVED", "DROPPED"), rows
        )
    )
    click.echo(f"dropped: {_pairs(state['drops']) or 'nothing'}")


@vpn.group()
def peer() -> None:
    """Admit stock WireGuard peers: phones, routers, machines without Kairos."""


@peer.command("add")
@click.argument("name")
@click.option("--public-key", metavar="KEY", help="The peer's public key, as `wg pubkey` prints it.")
@click.option("--generate-key", is_flag=True, help="Make its key here; the private one stands only in what is printed.")
@click.option("--endpoint", metavar="ADDRESS:PORT", help="Where it is reached. Without: it comes to the nodes.")
@click.option("--address", metavar="ADDRESS", help="Its address in the VPN. Without: a free one.")
@click.option("--routes", metavar="CIDR,…", help="Networks behind it, for nodes that accept them.")
@click.option(
    "--keepalive", type=click.IntRange(0, 3600), default=0, help="Seconds between signs of life; 25 behind NAT."
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the file there (mode 0600).")
@api_option
@json_option
def add_peer(  # noqa: PLR0913, PLR0917 - one for each option
    name: str,
    public_key: str | None,
    generate_key: bool,
    endpoint: str | None,
    address: str | None,
    routes: str | None,
    keepalive: int,
    output: Path | None,
    api: str | None,
    as_json: bool,
) -> None:
    """Admit the peer NAME and print its wg-quick file. Again with another key or endpoint: changes it."""
    if bool(public_key) is generate_key:
        raise click.UsageError("give either --public-key KEY or --generate-key.")
    if output is not None and output.exists():
        raise ControlError(f"{output} exists. Move it away, or choose another --output.")
    private_key, key = wgquick.generate_key() if generate_key else (None, public_key)
    wish: dict[str, Any] = {"name": name, "key": key, "endpoint": endpoint, "address": address, "keepalive": keepalive}
    wish["routes"] = [route.strip() for route in routes.split(",")] if routes else []
    answer = ApiClient(api).post({"peer_add": wish}, "networks", "vpn")
    _give(answer, private_key, output, as_json)


@peer.command("show")
@click.argument("name")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the file there (mode 0600).")
@api_option
@json_option
def show_peer(name: str, output: Path | None, api: str | None, as_json: bool) -> None:
    """Print the wg-quick file of the peer NAME anew, with the nodes of today, without its private key."""
    _give(ApiClient(api).post({"peer_show": {"name": name}}, "networks", "vpn"), None, output, as_json)


@peer.command("remove")
@click.argument("name")
@api_option
def remove_peer(name: str, api: str | None) -> None:
    """Let the peer NAME go: no node talks with it any more."""
    ApiClient(api).post({"peer_remove": {"name": name}}, "networks", "vpn")


def _state(api: str | None) -> dict[str, Any]:
    state: dict[str, Any] = ApiClient(api).get("networks", "vpn")
    if not state:
        raise ControlError("the VPN is not up on this node. See why with: kairos status")
    return state


def _give(answer: dict[str, Any], private_key: str | None, output: Path | None, as_json: bool) -> None:
    text = wgquick.format_file(answer, private_key)
    if output is not None:
        _write(output, text)
    if as_json:
        print_json(answer if output is not None else {**answer, "file": text})
    elif output is None:
        click.echo(text, nl=False)


def _write(output: Path, text: str) -> None:
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ControlError(
            f"cannot write {output}: {error.strerror}. The peer is admitted; see: kairos vpn peer show"
        ) from None
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value)
