"""Offers the command `kairos vpn`. A plugin of its own, so that `kairos --help` need not import the network."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kairos_core import Register, hookimpl

if TYPE_CHECKING:
    import click


COMMANDS = {"vpn": "Show the VPN, and admit stock WireGuard peers."}
"""Read by `kairos --help`, which imports none of this."""


@hookimpl
def register_commands(register: Register[click.Command]) -> None:
    register("vpn", lambda: import_module("kairos_net_vpn.commands").vpn)
