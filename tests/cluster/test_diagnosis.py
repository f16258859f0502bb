"""The doctor's checks: a state in, findings out."""

from dataclasses import replace

from kairos_core.cluster.controller import Actions, Durable, Local, Spec
from kairos_core.cluster.diagnosis import Examination, examine
from kairos_core.cluster.election import Rules
from kairos_core.cluster.quorum import Ballots, Decision, Recovery
from kairos_core.cluster.view import Node, Report, View
from kairos_core.model import Finding, PeerId, Role, Verdict

A, B, C, D = (PeerId(bytes([n]) * 32) for n in range(1, 5))
DECISION = Decision("kairos-1", A, "1")
NODES = {peer: Node(peer, name, incarnation="1") for peer, name in ((A, "a"), (B, "b"), (C, "c"))}
VIEW = View(me=B, nodes=NODES, alive=frozenset(NODES), claims={A: DECISION, B: DECISION})
HEALTHY = Examination(
    VIEW, Spec("b", Rules("kairos", quorum=2)), Actions(Local(Durable("1")), decision=DECISION, phase="ready")
)


def findings(examination: Examination) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(examination)}


def look(**changes: object) -> dict[str, Finding]:
    return findings(replace(HEALTHY, view=replace(VIEW, **changes)))


def test_a_healthy_network_has_nothing_but_ok() -> None:
    assert {finding.verdict for finding in examine(HEALTHY)} == {Verdict.OK}


def test_more_voters_than_the_quorum_covers_is_a_note_with_the_token_to_make() -> None:
    finding = look(nodes={**NODES, D: Node(D, "d")})["guarantee"]
    assert (finding.verdict, finding.remedy) == (Verdict.NOTE, "kairos generate-token --nodes 4")


def test_a_sole_master_that_is_silent_is_wrong_and_one_with_company_is_a_note() -> None:
    alone = look(alive=frozenset((B, C)))["first master"]
    assert alone.verdict is Verdict.WRONG
    assert "kairos cluster new-generation" in alone.remedy
    ha = replace(DECISION, ha=(C,), masters=1)
    it = replace(
        HEALTHY, view=replace(VIEW, alive=frozenset((B, C)), claims={}), actions=replace(HEALTHY.actions, decision=ha)
    )
    assert findings(it)["first master"].verdict is Verdict.NOTE
    replaced = {"assignments": {("kairos-1", C): (C, B)}, "epochs": {("kairos-1", C): 1}}
    finding = findings(replace(it, view=replace(it.view, **replaced)))["first master"]
    assert (finding.verdict, finding.message) == (Verdict.OK, "a is gone, and another master has taken its place")


def test_a_first_master_with_another_disk_is_wrong() -> None:
    finding = look(nodes={**NODES, A: replace(NODES[A], incarnation="2")})["first master"]
    assert (finding.verdict, "disk of a" in finding.message) == (Verdict.WRONG, True)


def test_a_silent_further_master_is_named() -> None:
    ha = replace(DECISION, ha=(C,), masters=1)
    it = replace(HEALTHY, view=replace(VIEW, alive=frozenset((A, B))), actions=replace(HEALTHY.actions, decision=ha))
    finding = findings(it)["further masters"]
    assert (finding.verdict, finding.message.startswith("c ")) == (Verdict.WRONG, True)


def test_a_second_cluster_is_found_from_both_sides_and_among_masters_by_hand() -> None:
    other = Decision("kairos-2", C, "1")
    winner = look(claims={A: DECISION, C: other})["one cluster"]
    assert (winner.verdict, winner.remedy) == (Verdict.WRONG, "on those nodes: kairos cluster adopt kairos-1")
    fenced = findings(replace(HEALTHY, actions=replace(HEALTHY.actions, fenced_by=other)))["one cluster"]
    assert (fenced.verdict, fenced.remedy) == (Verdict.WRONG, "kairos cluster adopt kairos-2")
    by_hand = replace(
        HEALTHY,
        spec=replace(HEALTHY.spec, automatic=False),
        view=replace(VIEW, reports={peer: Report(role=Role.MASTER) for peer in (A, C)}),
        actions=replace(HEALTHY.actions, decision=None),
    )
    assert "a, c" in findings(by_hand)["one cluster"].message


def test_too_few_voters_and_a_lost_memory_are_wrong_before_the_decision() -> None:
    lost = Local(Durable("1", Ballots(recovery=Recovery()), generation=0))
    it = replace(HEALTHY, view=replace(VIEW, alive=frozenset((B,)), claims={}), actions=Actions(lost))
    found = findings(it)
    assert {found[name].verdict for name in ("quorum", "memory")} == {Verdict.WRONG}


def test_a_lost_memory_that_too_few_others_can_mend_names_the_way_out() -> None:
    lost = Actions(Local(Durable("1", Ballots(recovery=Recovery()), generation=0)))
    two = replace(VIEW, nodes={peer: VIEW.nodes[peer] for peer in (A, B)}, alive=frozenset((A, B)), claims={})
    assert findings(replace(HEALTHY, view=two, actions=lost))["memory"].remedy.endswith("kairos cluster new-generation")
    assert "kairos start" in findings(replace(HEALTHY, actions=lost))["memory"].remedy, "with three, two others can"


def test_a_wrong_clock_a_broken_plugin_and_warnings_are_wrong() -> None:
    rows = ({"name": "dht", "state": "failed", "reason": "no module"},)
    found = findings(replace(HEALTHY, clock="it is a day off", plugins=rows, warnings=("the disk is full",)))
    assert {found[name].verdict for name in ("clock", "plugins", "warnings")} == {Verdict.WRONG}
    assert "dht (no module)" in found["plugins"].message


def test_a_disk_with_an_old_control_plane_says_how_to_give_it_up() -> None:
    durable = Durable("1", runs="kairos-0", serves=True)
    it = replace(HEALTHY, actions=replace(HEALTHY.actions, local=Local(durable), phase="waiting", message="held"))
    assert findings(it)["this disk"].remedy == "kairos cluster adopt kairos-1"
