"""Whether this machine's firewall lets peers in, as far as its rules tell. Pure but for `read_ruleset`.

Source of the JSON: libnftables-json(5). A rule is read for what it plainly says; where it says more than that
(marks, sets by name, what iptables wrote), the answer is "may", never "is".
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

PATIENCE = 5.0
"""Seconds for nft to answer."""


_PLAIN = ("accept", "drop", "reject")


class Passage(Enum):
    """What becomes of a packet to a port of this machine."""

    OPEN = "open"
    UNKNOWN = "unknown"
    SHUT = "shut"


def read_ruleset() -> Sequence[Mapping[str, Any]] | None:
    """Return the rules of nftables; None when they cannot be read (no nft, no right to)."""
    try:
        done = subprocess.run(
            ["nft", "-j", "list", "ruleset"],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE,
        )
        return list(json.loads(done.stdout)["nftables"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError):
        return None


def passage(ruleset: Sequence[Mapping[str, Any]], protocol: str, port: int) -> Passage:
    """Say whether packets of a protocol ("udp", "tcp") to a port come in. The strictest chain of all counts."""
    found = [_through(ruleset, chain, protocol, port) for chain in _inputs(ruleset)]
    for each in (Passage.SHUT, Passage.UNKNOWN):
        if each in found:
            return each
    return Passage.OPEN


def shutting_chain(ruleset: Sequence[Mapping[str, Any]], protocol: str, port: int) -> str | None:
    """Return the name of a chain that shuts a port out ("inet filter input"), None when none does."""
    for chain in _inputs(ruleset):
        if _through(ruleset, chain, protocol, port) is Passage.SHUT:
            return f"{chain['family']} {chain['table']} {chain['name']}"
    return None


def _inputs(ruleset: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for entry in ruleset:
        chain = entry.get("chain", {})
        if chain.get("hook") == "input" and chain.get("family") in ("ip", "inet"):
            yield chain


def _through(ruleset: Sequence[Mapping[str, Any]], chain: Mapping[str, Any], protocol: str, port: int) -> Passage:
    """Follow the rules of a base chain in order, as the kernel does, to the first that decides."""
    may_pass = may_end = False  # by a rule that perhaps applies, or leads where we do not look
    for entry in ruleset:
        rule = entry.get("rule", {})
        if [rule.get(key) for key in ("family", "table", "chain")] != [chain["family"], chain["table"], chain["name"]]:
            continue
        applies, verdict = _reading(rule.get("expr", []), protocol, port)
        if applies is False or verdict is None:
            continue
        is_plain = applies and verdict in _PLAIN
        if is_plain:
            return _judged(verdict == "accept", may_pass=may_pass, may_end=may_end)
        may_pass |= verdict not in ("drop", "reject")
        may_end |= verdict != "accept"
    return _judged(chain.get("policy", "accept") == "accept", may_pass=may_pass, may_end=may_end)


def _judged(accepts: bool, *, may_pass: bool, may_end: bool) -> Passage:
    """Judge by the first rule that plainly decides, and by what may have been decided before it."""
    if may_end if accepts else may_pass:
        return Passage.UNKNOWN
    return Passage.OPEN if accepts else Passage.SHUT


def _reading(expressions: Sequence[Any], protocol: str, port: int) -> tuple[bool | None, str | None]:
    """Return whether a rule applies to new packets to a port (None: perhaps), and its verdict (None: it has none)."""
    applies: bool | None = True
    verdict = None
    for expression in expressions:
        kind, body = next(iter(expression.items())) if isinstance(expression, dict) and expression else ("", {})
        if kind in ("accept", "drop", "reject", "jump", "goto", "queue", "xt"):
            verdict = kind
        elif kind == "match":
            matched = _matches(body, protocol, port)
            if matched is False:
                return False, None
            applies = None if matched is None else applies
        elif kind not in ("counter", "comment", "log", "limit"):
            applies = None
    return applies, verdict


def _matches(match: Mapping[str, Any], protocol: str, port: int) -> bool | None:
    left, right, is_equal = match.get("left"), match.get("right"), match.get("op") in ("==", "in")
    found: bool | None = None
    if isinstance(left, dict) and "payload" in left:
        payload = left["payload"]
        if payload.get("field") == "dport":
            if payload.get("protocol") not in (protocol, "th"):
                return False
            found = _holds(right, port)
        elif payload.get("field") in ("protocol", "nexthdr"):
            found = _holds(right, protocol)
        elif payload.get("protocol") in ("icmp", "icmpv6"):
            return False
    elif isinstance(left, dict) and left.get("meta", {}).get("key") == "l4proto":
        found = _holds(right, protocol)
    elif isinstance(left, dict) and left.get("meta", {}).get("key") in ("iif", "iifname") and right == "lo":
        found = False
    elif isinstance(left, dict) and left.get("ct", {}).get("key") == "state":
        found = _holds(right, "new")
    return found if is_equal or found is None else not found


def _holds(right: Any, value: int | str) -> bool | None:
    """Say whether the right side of a match (a value, set or range) holds a value; None when it cannot be told."""
    if isinstance(right, list):
        right = {"set": right}
    if isinstance(right, dict) and "set" in right:
        answers = [_holds(each, value) for each in right["set"]]
        return True if True in answers else None if None in answers else False
    if isinstance(right, dict) and "range" in right and isinstance(value, int):
        low, high = right["range"]
        return isinstance(low, int) and isinstance(high, int) and low <= value <= high
    if isinstance(right, str) and right.startswith("@"):
        return None
    return right == value if isinstance(right, int | str) else None
