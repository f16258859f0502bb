"""What the VPN finds right and wrong with itself while it is up."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from kairos_net_vpn.diagnosis import MANY, SETTLING, SILENCE, TROUBLES, Condition, diagnose
from kairos_net_vpn.drops import VpnDrop

from kairos_core import Finding, Verdict

KEYS = {name: name.encode().ljust(32, b"-") for name in ("node-1", "node-2", "node-3")}


def member(name: str, state: str = "up", path: str | None = "direct") -> dict[str, Any]:
    return {"name": name, "key": base64.b64encode(KEYS[name]).decode(), "state": state, "path": path}


def condition(*members: dict[str, Any], **changes: Any) -> Condition:
    report = {"interface": "kairos0", "address": "10.1.0.7", "port": 51820, "members": list(members)}
    awaited = {base64.b64decode(each["key"]): SETTLING + 1 for each in members}
    return replace(Condition(report, is_up=True, age=1.0, awaited=awaited), **changes)


def found(it: Condition) -> dict[str, Finding]:
    return {finding.check: finding for finding in diagnose(it)}


def test_where_all_is_well_all_is_well() -> None:
    findings = found(condition(member("node-1"), member("node-2"), drops={VpnDrop.NO_ROUTE: 10_000}))
    assert {name: each.verdict for name, each in findings.items()} == {
        "VPN tunnel": Verdict.OK,
        "VPN peers": Verdict.OK,
    }
    assert "2 other nodes" in findings["VPN peers"].message


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"is_up": False}, "kairos0 is down, or gone"), ({"age": SILENCE + 1}, "has said nothing for 31 s")],
)
def test_a_tunnel_that_carries_nothing_is_wrong(changes: dict[str, Any], said: str) -> None:
    finding = found(condition(**changes))["VPN tunnel"]
    assert (finding.verdict, said in finding.message, bool(finding.remedy)) == (Verdict.WRONG, True, True)


def test_a_data_plane_that_has_just_begun_is_not_silent() -> None:
    assert found(condition(age=None))["VPN tunnel"].verdict is Verdict.OK


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (["waiting"], "node-1, the only other node here, cannot be reached"),
        (["waiting", "up"], "node-1 cannot be reached through the VPN, 1 others can"),
        (["waiting", "idle"], "none of the others can be reached through the VPN; 2 are here"),
    ],
)
def test_nodes_that_live_and_are_not_reached_are_named(states: list[str], said: str) -> None:
    members = [member(name, state, None) for name, state in zip(KEYS, states, strict=False)]
    finding = found(condition(*members))["VPN peers"]
    assert (finding.verdict, finding.message.startswith(said)) == (Verdict.WRONG, True), finding
    assert "UDP port 51820" in finding.remedy


def test_a_node_that_has_just_come_or_that_is_gone_is_not_missed() -> None:
    fresh = condition(member("node-1", "waiting"), awaited={KEYS["node-1"]: SETTLING - 1})
    assert found(fresh)["VPN peers"].verdict is Verdict.OK
    assert found(condition(member("node-1", "idle"), awaited={}))["VPN peers"].verdict is Verdict.OK


def test_a_relay_is_a_note_that_names_it() -> None:
    findings = found(condition(member("node-1"), member("node-2", path="relay node-1")))
    assert findings["VPN peers"].verdict is Verdict.OK
    assert findings["VPN paths"].verdict is Verdict.NOTE
    assert "node-2 through node-1" in findings["VPN paths"].message


@pytest.mark.parametrize("drop", list(TROUBLES))
def test_drops_that_grow_are_a_note_with_what_they_mean(drop: str) -> None:
    finding = found(condition(drops={drop: MANY}))["VPN drops"]
    assert finding.verdict is Verdict.NOTE
    assert f"{drop}: {MANY} in a minute" in finding.message
    assert "{" not in finding.remedy
    assert "VPN drops" not in found(condition(drops={drop: MANY - 1}))
