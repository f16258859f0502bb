"""What the doctor makes of what was found out about a machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from kairos_core.config import Config, parse_config
from kairos_core.errors import EngineError
from kairos_core.model import EngineState, EngineStatus, Finding, Verdict
from kairos_core.protocol.token import format_token, new_token
from kairos_core.runtime.checkup import BORN, ROOM, Machine, examine_health, examine_machine
from kairos_core.runtime.lan import LanAddress
from kairos_core.runtime.offers import Kind, Offer
from kairos_core.runtime.plugins import Plugins
from kairos_core.settings import SecretStr
from kairos_core.testing.engines import FakeEngine, FakeService

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


@dataclass
class Left(FakeEngine):
    """An engine that an agent has left behind."""

    state: EngineStatus = field(default_factory=lambda: EngineStatus(EngineState.ABSENT))
    runs: bool = True
    trouble: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    async def status(self) -> EngineStatus:
        if self.trouble:
            raise EngineError(self.trouble)
        return self.state

    async def service(self) -> FakeService | None:
        service = FakeService()
        service.runs = self.runs
        return service if self.state.state is not EngineState.ABSENT else None


def health(engine: FakeEngine, config: Config) -> list[Finding]:
    offer = Offer(Kind.ENGINE, "left", lambda: engine, {}, "kairos-left", "1")
    return list(examine_health(config, Plugins([], [offer])))


def test_where_no_kubernetes_was_started_nothing_is_said_of_it(config: Config) -> None:
    assert health(Left(), config) == []
    assert list(examine_health(config, Plugins([], []))) == []


@pytest.mark.parametrize(
    ("state", "runs", "verdict", "remedy"),
    [
        (EngineState.READY, True, Verdict.OK, ""),
        (EngineState.STARTING, True, Verdict.WRONG, "wait a minute or two; if it stays so: kairos engine logs"),
        (EngineState.FAILED, True, Verdict.WRONG, "mend that, and then: kairos engine restart"),
        (EngineState.FAILED, False, Verdict.WRONG, "kairos engine start"),
    ],
)
def test_a_kubernetes_without_an_agent_is_asked_how_it_does(
    state: EngineState, runs: bool, verdict: Verdict, remedy: str, config: Config
) -> None:
    [found] = health(Left(EngineStatus(state, "it says so", join_token=SecretStr("hush")), runs), config)
    assert (found.check, found.verdict, found.message) == ("Kubernetes", verdict, "it says so")
    assert found.remedy.startswith(remedy)
    assert bool(found.remedy) is (verdict is Verdict.WRONG)


def test_a_record_that_cannot_be_read_is_told(config: Config) -> None:
    [found] = health(Left(trouble="the record is for root alone"), config)
    assert (found.verdict, found.message) == (Verdict.WRONG, "the record is for root alone")
