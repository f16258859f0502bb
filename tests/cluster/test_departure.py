"""How a node leaves the cluster: what it says, what a master does, and when its Kubernetes ends."""

from dataclasses import replace

import pytest

from kairos_core.cluster.controller import Actions, Durable, Local, Spec, reconcile
from kairos_core.cluster.departure import Expulsion
from kairos_core.cluster.durable import Leaving
from kairos_core.cluster.election import Moment, Rules
from kairos_core.cluster.quorum import Ballots, Decision
from kairos_core.cluster.roles import assigned, ha_masters
from kairos_core.cluster.view import ApiServer, Departure, Farewell, Node, Report, View
from kairos_core.model import Attachment, EngineState, EngineStatus, PeerId, Role

A, B, C, D, E = (PeerId(bytes([n]) * 32) for n in range(1, 6))
NAMES = dict(zip((A, B, C, D, E), "abcde", strict=True))
MOMENT = Moment(100.0, lambda: 0.5)
ID = "kairos-1"
HA = Decision(ID, A, "1", (B, C), 2)
ONE = Decision(ID, A, "1")
OUT = {(ID, B, A): Farewell(is_done=True, stopped=True)}
"""The last farewell, of a master to another one."""


def view(me: PeerId, **changes: object) -> View:
    """Five nodes, A to C masters that are ready, D and E workers."""
    nodes = {peer: Node(peer, name, incarnation="1", node=name) for peer, name in NAMES.items()}
    roles = {A: "master/clusterinit", B: "master/ha", C: "master/ha", D: "worker", E: "worker"}
    reports = {peer: Report(role=role, engine="ready") for peer, role in roles.items()}
    servers = tuple(ApiServer(peer, ID, f"10.1.0.{number}") for number, peer in enumerate((A, B, C)))
    return replace(View(me, nodes=nodes, alive=frozenset(NAMES), reports=reports, servers=servers), **changes)


def running(me: PeerId, decision: Decision = HA, leaving: Leaving = Leaving.NO, **changes: object) -> Local:
    """What a node knows whose Kubernetes is ready."""
    serves = me in (decision.init, *decision.ha)
    intent = ID if me == decision.init else None
    durable = Durable("1", Ballots(decided=decision), intent, NAMES[me], runs=ID, serves=serves, leaving=leaving)
    ready = EngineStatus(EngineState.READY)
    return replace(Local(durable, attachment=Attachment("eth0", "10.0.0.1"), engine=ready), **changes)


def look(view: View, local: Local, now: float = 100.0, **spec: object) -> Actions:
    made = Spec(NAMES[view.me], Rules("kairos", "1"), **spec)
    return reconcile(view, made, local, Moment(now, lambda: 0.5))


def said(actions: Actions, bucket: str) -> dict[str, object]:
    return {p.key: p.value for p in actions.publish if p.bucket == bucket}


def test_who_leaves_says_so_serves_nobody_any_more_and_waits_for_a_master() -> None:
    actions = look(view(C), running(C, leaving=Leaving.ORDERLY))
    assert (actions.role, actions.phase, actions.plan, actions.dismiss) == (Role.NONE, "leaving", None, False)
    assert said(actions, "departures") == {f"{ID}/{C}": {"node": "c"}}
    assert said(actions, "clusters") == {f"{ID}/{C}": None}
    assert "a master is taking this node out" in actions.message


def test_one_ready_master_takes_out_who_leaves() -> None:
    departures = {(ID, A): Departure("a"), (ID, D): Departure("d")}
    wanted = (Expulsion(ID, A, "a"), Expulsion(ID, D, "d"))
    assert look(view(B, departures=departures), running(B)).expel == wanted
    assert look(view(C, departures=departures), running(C)).expel == ()
    starting = running(B, engine=EngineStatus(EngineState.STARTING))
    assert look(view(B, departures=departures), starting).expel == ()
    reports = {**view(B).reports, B: Report(role="master/ha", engine="starting")}
    assert look(view(C, departures=departures, reports=reports), running(C)).expel == wanted
    assert look(view(D, departures={(ID, E): Departure("e")}), running(D)).expel == (), "a worker takes nobody out"


def test_a_master_that_leaves_takes_nobody_out() -> None:
    departures = {(ID, A): Departure("a"), (ID, B): Departure("b")}
    assert look(view(B, departures=departures), running(B, leaving=Leaving.ORDERLY)).expel == ()
    assert [each.peer for each in look(view(C, departures=departures), running(C)).expel] == [A, B]


def test_nobody_has_another_one_taken_out() -> None:
    state = view(B, departures={(ID, E): Departure("d")})
    assert look(state, running(B)).expel == ()
    twins = {**state.nodes, E: replace(state.nodes[E], node="d")}
    assert look(replace(state, nodes=twins), running(B)).expel == (), "two of one name"
    assert look(view(B, departures={(ID, E): Departure("x")}), running(B)).expel == ()
    assert look(view(B, departures={(ID, E): Departure("")}), running(B)).expel == ()


def test_kubernetes_ends_only_after_a_master_has_said_farewell() -> None:
    leaving = running(D, leaving=Leaving.ORDERLY)
    done, failed = Farewell(is_done=True), Farewell(is_done=False, message="the drain is blocked")
    for farewells, dismissed in (
        ({}, False),
        ({(ID, D, B): failed}, False),
        ({(ID, D, E): done}, False),  # no master
        ({("kairos-2", D, B): done}, False),
        ({(ID, E, B): done}, False),
        ({(ID, D, B): done}, True),
    ):
        actions = look(view(D, departures={(ID, D): Departure("d")}, farewells=farewells), leaving)
        assert actions.dismiss is dismissed, farewells
        assert ("drain is blocked" in actions.message) == (failed in farewells.values())


def test_when_kubernetes_has_ended_a_master_makes_sure_that_it_has_not_come_back_meanwhile() -> None:
    said_once = {(ID, B, A): Farewell(is_done=True)}
    ended = running(B, leaving=Leaving.ORDERLY, is_dismissed=True)
    asking = look(view(B, departures={(ID, B): Departure("b")}, farewells=said_once), ended)
    assert (asking.phase, asking.dismiss, asking.local.durable.runs) == ("leaving", False, ID)
    assert said(asking, "departures") == {f"{ID}/{B}": {"node": "b", "stopped": True}}
    state = view(A, departures={(ID, B): Departure("b", stopped=True)}, farewells=said_once)
    assert look(state, running(A)).expel == (Expulsion(ID, B, "b", stopped=True),)
    told = replace(state, farewells=said_once | OUT)
    assert look(told, running(A)).expel == ()
    assert look(replace(told, me=B), ended).phase == "left"


def test_who_is_out_and_without_kubernetes_has_left_and_forgets_the_cluster() -> None:
    out = view(B, departures={(ID, B): Departure("b", stopped=True)}, farewells=OUT)
    removed = look(out, running(B, leaving=Leaving.ORDERLY, is_dismissed=True))
    assert removed.phase == "left"
    durable = removed.local.durable
    assert (durable.runs, durable.serves, durable.intent) == (None, False, None)
    assert said(removed, "departures") == {f"{ID}/{B}": None}
    assert look(out, removed.local).phase == "left"


def test_at_once_waits_for_nobody() -> None:
    actions = look(view(A, alive=frozenset((A,))), running(A, ONE, Leaving.AT_ONCE))
    assert (actions.dismiss, actions.phase) == (True, "leaving")


def test_the_only_master_waits_since_nobody_could_take_it_out() -> None:
    actions = look(view(A, departures={(ID, A): Departure("a")}), running(A, ONE, Leaving.ORDERLY))
    assert not actions.dismiss
    assert "no other master is ready" in actions.message


def test_a_node_that_never_ran_anything_has_left_at_once() -> None:
    durable = Durable("1", Ballots(decided=HA), leaving=Leaving.ORDERLY)
    assert look(view(D), Local(durable)).phase == "left"
    assert look(view(D), Local(Durable("1", leaving=Leaving.ORDERLY))).phase == "left"


@pytest.mark.parametrize("has_engine", [True, False])
def test_without_automatic_roles_kubernetes_is_removed_and_the_node_has_left(has_engine: bool) -> None:
    local = Local(Durable("1", leaving=Leaving.ORDERLY), attachment=Attachment("eth0", "10.0.0.1"))
    first = look(view(D), local, automatic=False, wish=Role.WORKER, has_engine=has_engine)
    assert (first.dismiss, first.phase) == ((True, "leaving") if has_engine else (False, "left"))
    after = look(view(D), replace(local, is_dismissed=True), automatic=False, wish=Role.WORKER)
    assert (after.dismiss, after.phase) == (False, "left")


def test_a_node_whose_role_is_set_to_none_is_taken_out_too_and_stays() -> None:
    none = {"overrides": {D: Role.NONE}}
    asking = look(view(D, **none), running(D))
    assert (asking.phase, asking.dismiss) == ("leaving", False)
    assert said(asking, "departures") == {f"{ID}/{D}": {"node": "d"}}
    out = view(D, departures={(ID, D): Departure("d")}, farewells={(ID, D, B): Farewell(is_done=True)}, **none)
    assert look(out, running(D)).dismiss
    out = replace(out, farewells={(ID, D, B): Farewell(is_done=True, stopped=True)})
    after = look(out, running(D, is_dismissed=True))
    assert (after.phase, after.role, after.local.durable.runs) == ("ready", Role.NONE, None)


def test_a_first_master_that_was_taken_out_never_initialises_its_cluster_again() -> None:
    farewells = {(ID, A, B): Farewell(is_done=True, stopped=True)}
    out = view(A, departures={(ID, A): Departure("a", stopped=True)}, farewells=farewells, overrides={A: Role.NONE})
    gone = look(out, running(A, is_dismissed=True))
    incarnation = gone.local.durable.incarnation
    assert incarnation != "1"
    back = view(A, nodes={**view(A).nodes, A: Node(A, "a", incarnation=incarnation)})
    again = look(back, replace(gone.local, is_dismissed=False))
    assert (again.role, again.plan, again.phase) == (None, None, "waiting")
    assert "kairos leave, then kairos join" in again.message


def test_what_is_left_of_a_cluster_that_was_given_up_is_removed_only_when_its_machine_leaves() -> None:
    later = Decision("kairos-2", B, "1", generation=2)
    view_of_later = view(A, generation=2, overrides={A: Role.NONE})
    old = running(A)
    old = replace(old, durable=replace(old.durable, generation=2, ballots=Ballots(decided=later), intent=None))
    held = look(view_of_later, old)
    assert not held.dismiss
    assert "kairos leave" in held.message
    leaving = replace(old, durable=replace(old.durable, leaving=Leaving.ORDERLY))
    assert look(view_of_later, leaving).dismiss


def test_farewells_of_who_is_gone_are_taken_back() -> None:
    done = Farewell(is_done=True)
    farewells = {(ID, D, A): done, (ID, E, A): done, (ID, E, B): done}
    actions = look(view(A, departures={(ID, D): Departure("d")}, farewells=farewells), running(A))
    assert said(actions, "farewells") == {f"{ID}/{E}/{A}": None}
    assert actions.expel == ()


def test_a_leaving_node_counts_for_nothing_in_the_eyes_of_others() -> None:
    state = view(A, departures={(ID, C): Departure("c")})
    assert C not in state.candidates()
    actions = look(state, running(A))
    [(key, value)] = said(actions, "assignments").items()
    assert key == f"{ID}/{A}"
    assert value == {"ha": [B.public_key, _worker(value)], "generation": 1, "epoch": 1}


def _worker(value: object) -> bytes:
    """Return the second of the assigned, which must be a worker that was promoted."""
    assert isinstance(value, dict)
    [second] = {D.public_key, E.public_key} & set(value["ha"])
    return second


# -- who assigns the masters when the first one is gone


def test_when_the_first_master_is_lost_another_replaces_it_after_a_while() -> None:
    lost = view(B, alive=frozenset((B, C, D, E)))
    first = look(lost, running(B))
    assert said(first, "assignments") == {}
    assert first.wake_at == 100.0 + 300.0
    later = look(lost, first.local, now=first.wake_at)
    [value] = said(later, "assignments").values()
    assert value["epoch"] == 1
    assert len(value["ha"]) == 3, "one more than before, since the first one is not in the list"
    assert {B.public_key, C.public_key} < set(value["ha"])
    waiting = look(replace(lost, me=C), running(C))
    assert said(look(replace(lost, me=C), waiting.local, now=first.wake_at), "assignments") == {}, "B comes before C"


def test_a_first_master_that_leaves_or_lost_its_disk_is_replaced_at_once() -> None:
    left = view(B, departures={(ID, A): Departure("a")})
    wiped = view(B, nodes={**view(B).nodes, A: Node(A, "a", incarnation="2")})
    for state in (left, wiped):
        [value] = said(look(state, running(B)), "assignments").values()
        assert len(value["ha"]) == 3


def test_masters_repeat_the_assignment_so_that_it_outlives_its_author() -> None:
    state = view(C, assignments={(ID, A): (B, C, D)}, epochs={(ID, A): 4})
    [value] = said(look(state, running(C)), "assignments").values()
    assert value == {"ha": [B.public_key, C.public_key, D.public_key], "generation": 1, "epoch": 4}


def test_the_later_assignment_of_a_master_counts_and_that_of_others_never() -> None:
    def of(assignments: dict[PeerId, tuple[tuple[PeerId, ...], int]]) -> tuple[PeerId, ...]:
        state = view(
            E,
            assignments={(ID, peer): ha for peer, (ha, _) in assignments.items()},
            epochs={(ID, peer): epoch for peer, (_, epoch) in assignments.items()},
        )
        return ha_masters(state, HA)

    assert of({}) == (B, C)
    assert of({A: ((B, D), 1)}) == (B, D)
    assert of({A: ((B, D), 1), B: ((B, E), 2)}) == (B, E)
    assert of({A: ((B, D), 3), B: ((B, E), 2)}) == (B, D)
    assert of({E: ((E,), 9)}) == (B, C), "no master"
    assert of({C: ((C, E), 1), E: ((E,), 9)}) == (E,), "made a master by one, it may assign"
    assert of({A: ((B, D), 1), C: ((C,), 7)}) == (B, D), "no master any more"
    assert of({B: ((B, D), 1), C: ((C, E), 1)}) == of({C: ((C, E), 1), B: ((B, D), 1)})


def test_a_first_master_that_comes_back_takes_over_from_what_was_assigned_meanwhile() -> None:
    state = view(A, assignments={(ID, B): (B, C, D)}, epochs={(ID, B): 1})
    assert assigned(state, HA) == ((B, C, D), 1)
    [value] = said(look(state, running(A)), "assignments").values()
    assert (len(value["ha"]), value["epoch"]) == (3, 1), "nobody is taken down again"
