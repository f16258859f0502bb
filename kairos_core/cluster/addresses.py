"""Addresses by lease: each claim is an entry of its own writer, and every node computes the same holder.

The key is `<address>/<peer id>`; the holder is the pure maximum of (epoch, renewals, hash), so who has held an
address for long keeps it. Unique as long as the claimants see each other; after a split network meets again, one
of two holders moves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from kairos_core.model import PeerId
from kairos_core.protocol.buckets import LEASES
from kairos_core.protocol.entry import Entry, pack


@dataclass(frozen=True, slots=True)
class Claim:
    """One node's claim of one address."""

    address: IPv4Address
    peer: PeerId
    epoch: int
    renewals: int
    guest: str = ""
    """The name of whom the peer holds it for, who is no node; empty: for itself."""

    @property
    def weight(self) -> tuple[int, int, bytes]:
        tie = hashlib.sha256(self.address.packed + self.peer.public_key).digest()
        return (self.epoch, self.renewals, tie)


def read_claims(entries: Iterable[Entry]) -> list[Claim]:
    """Read the claims among a ledger's visible entries; what is not of the form is left out."""
    claims = []
    for entry in entries:
        if entry.bucket != LEASES:
            continue
        try:
            address = IPv4Address(entry.key.partition("/")[0])
            guest = str(entry.content.get("guest", ""))
            claims.append(Claim(address, entry.author, entry.epoch, int(entry.content["renewals"]), guest))
        except (ValueError, TypeError, KeyError, OverflowError, AttributeError):
            continue
    return claims


def holders(claims: Iterable[Claim], pool: IPv4Network) -> dict[IPv4Address, PeerId]:
    """Return who holds which address of the pool."""
    best: dict[IPv4Address, Claim] = {}
    for claim in claims:
        current = best.get(claim.address)
        if claim.address in pool and (current is None or claim.weight > current.weight):
            best[claim.address] = claim
    return {address: claim.peer for address, claim in best.items()}


def without_guests(held: Mapping[IPv4Address, PeerId], claims: Iterable[Claim]) -> dict[IPv4Address, PeerId]:
    """Return the addresses that nodes hold for themselves."""
    guests = {(claim.address, claim.peer) for claim in claims if claim.guest}
    return {address: peer for address, peer in held.items() if (address, peer) not in guests}


def held_by(peer: PeerId, held: Mapping[IPv4Address, PeerId]) -> IPv4Address | None:
    """Return the address that a peer holds, the lowest if it holds several."""
    return min((address for address, holder in held.items() if holder == peer), default=None)


def free_address(pool: IPv4Network, peer: PeerId, held: Mapping[IPv4Address, PeerId]) -> IPv4Address | None:
    """Return the address to claim: the first free one from a place in the pool that the peer id determines.

    So a node tends to get the address it had, and nodes that start at once rarely meet. None: all are taken.
    """
    first, count = int(pool.network_address) + 1, pool.num_addresses - 2
    if count < 1:
        return None
    start = int.from_bytes(hashlib.sha256(peer.public_key).digest()[:8]) % count
    for step in range(count):
        address = IPv4Address(first + (start + step) % count)
        if address not in held:
            return address
    return None


def renewed(entry: Entry) -> Entry:
    """Return what to sign when an entry is due: a claim counts its renewals, and so outweighs younger ones."""
    if entry.bucket != LEASES or not isinstance(entry.content, dict):
        return entry
    renewals = entry.content.get("renewals")
    return replace(entry, value=pack({**entry.content, "renewals": renewals + 1 if isinstance(renewals, int) else 0}))
