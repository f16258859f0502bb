"""What is right and wrong with the VPN while it is up, with what mends it. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from kairos_core import Finding, Verdict
from kairos_net_vpn.drops import VpnDrop

SETTLING = 15.0
"""Seconds for which a node may be here without a session: the handshake, and hearing of it, takes up to ten."""

SILENCE = 30.0
"""Seconds without statistics after which the data plane is in trouble; it is asked every five."""

WINDOW = 60.0
"""Seconds over which drops are counted. Raising it sees rarer trouble, and shows for longer what is over."""

MANY = 60
"""Drops of one kind within the window that are worth a word: one each second. Some are lost in any network."""

TROUBLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        VpnDrop.OVERSIZED: ("datagrams are too large for the LAN", "set a smaller p2p.vpn.mtu"),
        VpnDrop.UNREACHABLE: ("this machine has no route to a node's LAN address", "ip route"),
        VpnDrop.SEND_FULL: ("more is sent than the LAN takes", "look who sends: kairos vpn peers"),
        VpnDrop.TUN_REFUSED: ("the kernel does not take packets from the tunnel", "ip link set dev {interface} up"),
        VpnDrop.UNSEAL: ("datagrams were altered, or forged", "look for two machines with one identity"),
        VpnDrop.COOKIE: ("there are too many handshakes", "look who floods UDP port {port}"),
        VpnDrop.FLOODED: ("there are too many handshakes", "look who floods UDP port {port}"),
        VpnDrop.SOURCE_MISMATCH: (
            "a node sends from addresses that it does not offer",
            "p2p.vpn.routes there, p2p.vpn.accept_routes here",
        ),
        VpnDrop.RELAY_FLOOD: ("more is relayed than two nodes may", "let UDP port {port} through between all nodes"),
    }
)
"""Drops that an operator can do something about: what they mean, and what to look at."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How the VPN does: its report (see `report`), and what that does not say.

    `awaited` are the public keys of nodes that live, each with the seconds since when; `drops` those within the window;
    `age` is that of the report's figures, None while there are none.
    """

    report: Mapping[str, Any]
    is_up: bool  # the tunnel's interface
    age: float | None
    awaited: Mapping[bytes, float] = field(default_factory=dict)
    drops: Mapping[str, int] = field(default_factory=dict)


def diagnose(condition: Condition) -> Iterator[Finding]:
    """Yield what is found, the most fundamental first."""
    yield _tunnel(condition)
    yield _peers(condition)
    yield from _relayed(condition)
    yield from _drops(condition)


def _tunnel(it: Condition) -> Finding:
    interface, address = it.report["interface"], it.report["address"]
    if not it.is_up:
        message = f"the interface {interface} is down, or gone; nothing goes through the VPN"
        return Finding("VPN tunnel", Verdict.WRONG, message, f"ip link set dev {interface} up; else restart the agent")
    if it.age is not None and it.age > SILENCE:
        message = f"the data plane has said nothing for {it.age:.0f} s"
        return Finding("VPN tunnel", Verdict.WRONG, message, "see the agent's log, and restart the agent")
    return Finding("VPN tunnel", Verdict.OK, f"{interface} is up with {address}")


def _peers(it: Condition) -> Finding:
    awaited = [member for member in it.report["members"] if _since(it, member) > SETTLING]
    missing = sorted(_name(member) for member in awaited if member["state"] != "up")
    if not missing:
        return Finding("VPN peers", Verdict.OK, f"all {len(awaited)} other nodes that live are reached")
    who = "none of the others" if len(missing) == len(awaited) > 1 else ", ".join(missing)
    message = f"{who} can be reached through the VPN; {len(awaited)} are here"
    if len(missing) == len(awaited) == 1:
        message = f"{who}, the only other node here, cannot be reached through the VPN"
    elif len(missing) < len(awaited):
        message = f"{who} cannot be reached through the VPN, {len(awaited) - len(missing)} others can"
    return Finding("VPN peers", Verdict.WRONG, message, _opening(it))


def _relayed(it: Condition) -> Iterator[Finding]:
    ways = [(_name(member), str(member["path"])) for member in it.report["members"] if member["path"]]
    relayed = [f"{name} through {path.removeprefix('relay ')}" for name, path in ways if path.startswith("relay ")]
    if relayed:
        message = f"not reached directly, which costs speed: {', '.join(sorted(relayed))}"
        yield Finding("VPN paths", Verdict.NOTE, message, _opening(it))


def _drops(it: Condition) -> Iterator[Finding]:
    many = {drop: count for drop, count in sorted(it.drops.items()) if count >= MANY and drop in TROUBLES}
    if many:
        told = [f"{TROUBLES[drop][0]} ({drop}: {count} in a minute)" for drop, count in many.items()]
        remedies = dict.fromkeys(TROUBLES[drop][1].format_map(it.report) for drop in many)
        yield Finding("VPN drops", Verdict.NOTE, "; ".join(told), "; ".join(remedies))


def _since(it: Condition, member: Mapping[str, Any]) -> float:
    return it.awaited.get(base64.b64decode(member["key"]), 0.0)


def _name(member: Mapping[str, Any]) -> str:
    return str(member["name"] or member["key"][:8])


def _opening(it: Condition) -> str:
    return f"let UDP port {it.report['port']} of this machine in, and that of the others: kairos vpn peers"
