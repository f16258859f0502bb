"""What rules of nftables do to a port, read from their JSON; and the same asked of the kernel's own rules."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from kairos_core.runtime.firewall import Passage, passage, shutting_chain

INPUT = {"family": "inet", "table": "filter", "name": "input", "type": "filter", "hook": "input", "prio": 0}
OPEN, SHUT, UNKNOWN = Passage.OPEN, Passage.SHUT, Passage.UNKNOWN


def rules(policy: str, *expressions: list[Any]) -> list[dict[str, Any]]:
    placed = {"family": "inet", "table": "filter", "chain": "input"}
    chain = {"chain": {**INPUT, "policy": policy}}
    return [{"metainfo": {}}, chain, *({"rule": {**placed, "expr": each}} for each in expressions)]


def match(left: dict[str, Any], right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


def dport(right: Any, protocol: str = "udp", op: str = "==") -> dict[str, Any]:
    return match({"payload": {"protocol": protocol, "field": "dport"}}, right, op)


ACCEPT, DROP, JUMP = {"accept": None}, {"drop": None}, {"jump": {"target": "more"}}
ESTABLISHED = match({"ct": {"key": "state"}}, {"set": ["established", "related"]}, "in")
NEW = match({"ct": {"key": "state"}}, ["new"], "in")
LOOPBACK = match({"meta": {"key": "iifname"}}, "lo")
ETH0 = match({"meta": {"key": "iifname"}}, "eth0")
BOTH = match({"meta": {"key": "l4proto"}}, {"set": ["tcp", "udp"]})
FROM_LAN = match({"payload": {"protocol": "ip", "field": "saddr"}}, {"prefix": {"addr": "192.168.1.0", "len": 24}})

CASES = {
    "no chain at all": ([], OPEN),
    "open by default": (rules("accept"), OPEN),
    "shut by default": (rules("drop"), SHUT),
    "only what is known": (rules("drop", [ESTABLISHED, ACCEPT], [LOOPBACK, ACCEPT]), SHUT),
    "the port": (rules("drop", [dport(7373), ACCEPT]), OPEN),
    "another port": (rules("drop", [dport(22), ACCEPT]), SHUT),
    "another protocol": (rules("drop", [dport(7373, "tcp"), ACCEPT]), SHUT),
    "both protocols": (rules("drop", [BOTH, dport(7373, "th"), ACCEPT]), OPEN),
    "a set of ports": (rules("drop", [dport({"set": [22, 7373]}), ACCEPT]), OPEN),
    "a range of ports": (rules("drop", [dport({"range": [7000, 8000]}), {"counter": {}}, ACCEPT]), OPEN),
    "a range in a set": (rules("drop", [dport({"set": [22, {"range": [7000, 8000]}]}), ACCEPT]), OPEN),
    "all but the port": (rules("drop", [dport(7373, op="!="), ACCEPT]), SHUT),
    "a named set": (rules("drop", [dport("@ours"), ACCEPT]), UNKNOWN),
    "from the LAN": (rules("drop", [FROM_LAN, ACCEPT]), UNKNOWN),
    "from one interface": (rules("drop", [ETH0, ACCEPT]), UNKNOWN),
    "a chain to jump to": (rules("drop", [JUMP]), UNKNOWN),
    "perhaps dropped": (rules("accept", [FROM_LAN, DROP]), UNKNOWN),
    "dropped": (rules("accept", [dport(7373), DROP]), SHUT),
    "accepted before it is dropped": (rules("accept", [dport(7373), ACCEPT], [dport(7373), DROP]), OPEN),
    "what iptables wrote": (rules("drop", [{"xt": {"type": "match", "name": "comment"}}]), UNKNOWN),
    "new ones": (rules("drop", [NEW, dport(7373), ACCEPT]), OPEN),
    "an expression nobody knows": (rules("drop", [{"tproxy": {}}, ACCEPT]), UNKNOWN),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_of_rules_is_read_for_what_it_says(name: str) -> None:
    ruleset, expected = CASES[name]
    assert passage(ruleset, "udp", 7373) is expected


def test_the_strictest_of_several_chains_counts_and_is_named() -> None:
    other = {**INPUT, "table": "guard", "policy": "drop"}
    ruleset = [*rules("accept"), {"chain": other}]
    assert passage(ruleset, "udp", 7373) is SHUT
    assert shutting_chain(ruleset, "udp", 7373) == "inet guard input"
    assert shutting_chain(rules("accept"), "udp", 7373) is None


def test_chains_of_other_hooks_do_not_matter() -> None:
    forward = {"chain": {**INPUT, "hook": "forward", "policy": "drop"}}
    assert passage([forward], "udp", 7373) is OPEN


@pytest.mark.system
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("policy drop; udp dport { 22, 7373 } accept", OPEN),
        ("policy drop; meta l4proto { tcp, udp } th dport 7000-8000 counter accept", OPEN),
        ("policy drop; ct state established,related accept; iifname lo accept; icmp type echo-request accept", SHUT),
        ("policy accept; udp dport 7373 reject", SHUT),
        ("policy drop; ip saddr 10.0.0.0/8 accept", UNKNOWN),
        ("policy drop; ip protocol udp udp dport 7373 limit rate 5/second accept", OPEN),
    ],
)
def test_the_kernel_s_own_words_are_understood(text: str, expected: Passage) -> None:
    policy, *given = text.split("; ")
    chain = f"type filter hook input priority 0; {policy};\n" + "\n".join(given)
    script = "nft -f - && nft -j list ruleset"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script],
        input=f"table inet t {{\nchain input {{\n{chain}\n}}\n}}\n",
        capture_output=True, text=True, check=True, timeout=20,
    )  # fmt: skip
    assert passage(json.loads(done.stdout)["nftables"], "udp", 7373) is expected
