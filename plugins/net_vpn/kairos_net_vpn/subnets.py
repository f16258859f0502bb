"""Networks behind nodes: who offers which, what is accepted here, who carries it. Pure.

The policy is the operator's; above it stand rules that no policy lifts, each against a way in which one member
could take over traffic that is not the VPN's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from kairos_core import PeerId
from kairos_net_vpn.prefixes import NEVER_ROUTED, Prefix

MAX_ROUTES = 64
"""Prefixes taken from one node. More would let one entry fill the routing tables of all."""
MAX_ACCEPTED = 1024
"""Prefixes accepted from all nodes together; each is a route in the kernel, which costs it 200 bytes and us 20 us."""
EVERYTHING: tuple[Prefix, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
MAX_OFFERED = 4096
"""Prefixes looked at, shared equally when more than 64 nodes offer some: a look at one takes 15 us, each time that the
ledger changes."""
SHORTEST = {4: 8, 6: 16}
"""The shortest prefix of each family. Two halves of everything (0.0.0.0/1, 128.0.0.0/1) are a default route in
disguise; 10.0.0.0/8 is the largest network that somebody may have at home (RFC 1918)."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What one node advertises. `is_router` says that this node's operator chose it for all other packets."""

    peer: PeerId
    routes: tuple[Prefix, ...]
    is_alive: bool
    is_router: bool = False


@dataclass(frozen=True)
class Rules:
    """What is accepted: within `accepted`, outside `barred` (and why), and not around places in the underlay."""

    accepted: tuple[Prefix, ...]
    barred: tuple[tuple[Prefix, str], ...] = ()
    underlay: Mapping[IPv4Address | IPv6Address, PeerId] = field(default_factory=dict)

    @cached_property
    def places(self) -> list[tuple[int, int, str]]:
        """The underlay's addresses as (version, number, words), sorted to be searched."""
        return sorted((at.version, int(at), f"{at}, where {peer} is reached") for at, peer in self.underlay.items())


@dataclass(slots=True)
class Choice:
    """Who carries what: `routes` are sent to the peer, `standby` may only come from it; `refused` says why."""

    routes: dict[PeerId, tuple[Prefix, ...]] = field(default_factory=dict)
    standby: dict[PeerId, tuple[Prefix, ...]] = field(default_factory=dict)
    refused: dict[tuple[PeerId, Prefix], str] = field(default_factory=dict)

    @property
    def prefixes(self) -> frozenset[Prefix]:
        """The prefixes that belong into the kernel's table: all but the default route, which stays the operator's."""
        return frozenset(prefix for routes in self.routes.values() for prefix in routes if prefix.prefixlen)


def choose(offers: Iterable[Offer], rules: Rules) -> Choice:
    """Choose a carrier for each accepted prefix: the lowest peer id of the living.

    Where nobody lives, the lowest of all keeps it: better that packets are lost than that they leave through
    another door. Nodes that see the same make the same choice.
    """
    choice, taken = Choice(), set[Prefix]()
    for offer in sorted(offers, key=lambda offer: (not offer.is_alive, offer.peer)):
        first: list[Prefix] = []
        second: list[Prefix] = []
        for prefix in dict.fromkeys(offer.routes[:MAX_ROUTES]):
            reason = _refusal(prefix, offer, rules, is_full=len(taken) >= MAX_ACCEPTED and prefix not in taken)
            if reason is None:
                (second if prefix in taken else first).append(prefix)
                taken.add(prefix)
            elif reason:
                choice.refused[offer.peer, prefix] = reason
        if offer.is_router and not any(prefix.prefixlen == 0 for prefix in first):
            choice.refused[offer.peer, EVERYTHING[0]] = f"env.ROUTER names it, but it does not offer {EVERYTHING[0]}"
        if first:
            choice.routes[offer.peer] = tuple(first)
        if second:
            choice.standby[offer.peer] = tuple(second)
    return choice


def _refusal(prefix: Prefix, offer: Offer, rules: Rules, *, is_full: bool) -> str | None:
    """Return why a prefix is not accepted, None when it is; the empty text for what needs no word."""
    if prefix.prefixlen == 0:
        return None if offer.is_router else ""
    if prefix.prefixlen < SHORTEST[prefix.version]:
        return f"it is shorter than /{SHORTEST[prefix.version]}: a default route in disguise"
    if not any(_holds(wide, prefix) for wide in rules.accepted):
        return "p2p.vpn.accept_routes does not allow it"
    return f"{MAX_ACCEPTED} routes are accepted already" if is_full else _conflict(prefix, rules)


def _conflict(prefix: Prefix, rules: Rules) -> str | None:
    never = ((each, "which is never routed") for each in NEVER_ROUTED)
    for barred, why in (*never, *rules.barred):
        if barred.version == prefix.version and barred.overlaps(prefix):
            return f"it overlaps {barred}, {why}"
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    at = bisect_left(rules.places, (prefix.version, first))
    if at < len(rules.places) and rules.places[at][:2] <= (prefix.version, last):
        return f"it holds {rules.places[at][2]}: the tunnel would run through itself"
    return None


def _holds(wide: Prefix, narrow: Prefix) -> bool:
    return wide.version == narrow.version and wide.prefixlen <= narrow.prefixlen and wide.overlaps(narrow)
