"""What a bucket means: who may write a key, and which of two entries stays. This is code, never configuration.

own    only the author whom the key names (its last part, `…/<peer id>`) writes it; the later entry stays
lww    every member writes; the later entry stays
claim  every member claims; the claim that was made first (`epoch`: unix seconds) stays, renewals included
mono   as own, and the value only grows: `[rank bytes, payload]`, the greater rank stays

Each policy is a total order on entries, so merging (taking the greater) is commutative, associative and
idempotent by construction. No clock, no liveness and no order of arrival takes part.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from kairos_core.errors import ProtocolError
from kairos_core.model import PeerId
from kairos_core.protocol.drops import Drop
from kairos_core.protocol.entry import Entry


class Policy(StrEnum):
    """How a bucket is written and merged."""

    OWN = "own"
    LWW = "lww"
    CLAIM = "claim"
    MONO = "mono"


PEERS = "peers"  # who is a member, where it listens, what it wishes to be
REPORTS = "reports"  # how far each node has come
LEASES = "leases"  # <address>/<peer id>: who holds which VPN address
PREPARES = "prepares"  # the election: see kairos_core.cluster.quorum
REGISTERS = "registers"
PROPOSALS = "proposals"
GENERATIONS = "generations"  # <network id>/<peer id>: the generation of the cluster that this node takes part in
DECISIONS = "decisions"  # <network id>/<generation>/<peer id>: the cluster that this node holds to be decided
CLUSTERS = "clusters"  # <cluster id>/<peer id>: a master's API server is up
ASSIGNMENTS = "assignments"  # <cluster id>/<peer id>: the initialiser's list of HA masters
DEPARTURES = "departures"  # <cluster id>/<peer id>: this node leaves the cluster; under which name it is there
FAREWELLS = "farewells"  # <cluster id>/<who leaves>/<peer id>: whether this master has taken it out
SECRETS = "secrets"  # <cluster id>/<name>/<peer id>: sealed to the roles that need it
ROLES = "roles"  # <peer id>: the role an operator has set
VALUES = "values"  # whatever operators and programs keep

_POLICIES = {
    PREPARES: Policy.MONO,
    REGISTERS: Policy.MONO,
    PROPOSALS: Policy.MONO,
    GENERATIONS: Policy.MONO,
    ROLES: Policy.LWW,
    VALUES: Policy.LWW,
    "claims": Policy.CLAIM,
}


def policy_of(bucket: str) -> Policy:
    """Return a bucket's policy. Buckets that plugins bring (topics) are `own`: nobody writes for another."""
    return _POLICIES.get(bucket, Policy.OWN)


def is_writer(bucket: str, key: str, author: PeerId) -> bool:
    """Say whether the author may write this key."""
    if policy_of(bucket) in (Policy.LWW, Policy.CLAIM):
        return True
    return key.rpartition("/")[2] == str(author)


def check_value(entry: Entry) -> None:
    """Refuse a value that the bucket's order cannot place. Raises ProtocolError (malformed)."""
    if entry.is_deleted or policy_of(entry.bucket) is not Policy.MONO:
        return
    content = entry.content
    if not (isinstance(content, list) and len(content) == 2 and isinstance(content[0], bytes)):
        raise ProtocolError(Drop.MALFORMED, f"value of {entry.bucket}")


def rank(entry: Entry) -> tuple[Any, ...]:
    """Return what entries of one key are compared by; equal only for equal entries."""
    match policy_of(entry.bucket):
        case Policy.CLAIM:
            # A holder's renewal, or its release (a tombstone, which keeps the key until it expires), beats
            # only its own older form.
            return (-entry.epoch, entry.author.public_key, entry.hlc, entry.id)
        case Policy.MONO:
            return (b"" if entry.is_deleted else entry.content[0], entry.hlc, entry.id)
        case _:
            return (entry.hlc, entry.id)


def merge(one: Entry, other: Entry) -> Entry:
    """Return which of two entries of one key stays."""
    return one if rank(one) >= rank(other) else other
