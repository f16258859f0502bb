"""What the doctor makes of what was found out about a machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kairos_core.config import Config, parse_config
from kairos_core.model import Finding, Verdict
from kairos_core.protocol.token import format_token, new_token
from kairos_core.runtime.checkup import BORN, ROOM, Machine, examine_machine
from kairos_core.runtime.lan import LanAddress

TOKEN = format_token(new_token(lambda alphabet: alphabet[0]))
WELL = Machine(
    lan=(LanAddress("eth0", "192.168.1.7"),),
    unix_now=BORN + 1e7,
    is_root=True,
    ruleset=(),
    free=10 * ROOM,
    public=(),
)
SHUT = [{"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}}]


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config([("kairos.yaml", f"p2p: {{network_token: {TOKEN}}}\n")])


def found(machine: Machine, config: Config) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine_machine(machine, config)}


def test_on_a_machine_that_is_well_all_is_well(config: Config) -> None:
    assert {finding.verdict for finding in found(WELL, config).values()} == {Verdict.OK}


@pytest.mark.parametrize(
    ("check", "machine", "said"),
    [
        ("LAN", replace(WELL, lan=()), "no interface"),
        ("date", replace(WELL, unix_now=0.0), "1970-01-01"),
        (
            "secrecy",
            replace(WELL, public=[("/oem/a.yaml", f"p2p: {TOKEN}"), ("/oem/b.yaml", "k3s: {}")]),
            "/oem/a.yaml",
        ),
        ("firewall", replace(WELL, ruleset=SHUT), "'ip filter INPUT'"),
        ("disk", replace(WELL, free=ROOM - 1), "1.0 GiB"),
    ],
)
def test_each_fault_is_found_with_what_mends_it(check: str, machine: Machine, said: str, config: Config) -> None:
    findings = found(machine, config)
    assert [name for name, finding in findings.items() if finding.verdict is Verdict.WRONG] == [check]
    assert said in findings[check].message
    assert findings[check].remedy


def test_a_firewall_that_cannot_be_read_is_noted_and_not_called_wrong(config: Config) -> None:
    assert found(replace(WELL, ruleset=None), config)["firewall"].verdict is Verdict.NOTE
