"""The controller as a function: a state in, actions out."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kairos_core import SecretStr
from kairos_core.cluster.controller import TURN, Actions, Durable, Local, Spec, reconcile
from kairos_core.cluster.election import Moment, Rules
from kairos_core.cluster.fence import stronger
from kairos_core.cluster.quorum import Ballots, Decision
from kairos_core.cluster.reading import read_view
from kairos_core.cluster.rotation import JoinToken
from kairos_core.cluster.view import ApiServer, Node, Report, View
from kairos_core.model import Attachment, EngineState, EngineStatus, PeerId, Role
from kairos_core.protocol.entry import Entry, pack

A, B, C, D = (PeerId(bytes([n]) * 32) for n in range(1, 5))
MOMENT = Moment(100.0, lambda: 0.5)
LAN = Attachment("eth0", "192.168.1.7")


def view(me: PeerId, **changes: object) -> View:
    nodes = {peer: Node(peer, f"n{i}", incarnation="1") for i, peer in enumerate((A, B, C))}
    return replace(View(me=me, nodes=nodes, alive=frozenset((A, B, C))), **changes)


def local(decision: Decision | None = None, **changes: object) -> Local:
    durable = Durable("1", Ballots(decided=decision))
    return replace(Local(durable, attachment=LAN), **changes)


def serving(decision: Decision, **changes: object) -> Local:
    """A master whose control plane is up."""
    state = local(decision, engine=EngineStatus(EngineState.READY))
    durable = replace(state.durable, runs=decision.cluster_id, serves=True, intent=decision.cluster_id)
    return replace(state, durable=replace(durable, **changes))


def spec(**changes: object) -> Spec:
    made = Spec("n0", Rules("kairos", "1"), cluster_token=lambda cluster: SecretStr("token of " + cluster))
    return replace(made, **changes)


DECISION = Decision("kairos-1", A, "1")


def test_the_initialiser_saves_its_intent_with_the_plan_that_initialises() -> None:
    actions = reconcile(view(A), spec(), local(DECISION), MOMENT)
    assert actions.role is Role.MASTER
    assert actions.local.durable.intent == "kairos-1"
    assert actions.plan.join is None
    assert actions.plan.cluster_token.get_secret_value() == "token of kairos-1"


def test_a_second_look_at_the_same_state_changes_nothing() -> None:
    first = reconcile(view(A), spec(), local(DECISION), MOMENT)
    assert reconcile(view(A), spec(), first.local, MOMENT) == first


def test_a_worker_waits_for_the_master_and_then_for_the_token_and_says_so() -> None:
    alone = reconcile(view(B), spec(), local(DECISION), MOMENT)
    assert (alone.phase, alone.plan) == ("waiting", None)
    assert "first master, n0, is up" in alone.message
    servers = (ApiServer(A, "kairos-1", "10.1.0.5"),)
    without = reconcile(view(B, servers=servers), spec(), local(DECISION), MOMENT)
    assert "join token" in without.message
    with_token = local(DECISION, join_token=JoinToken(SecretStr("K10")))
    actions = reconcile(view(B, servers=servers), spec(), with_token, MOMENT)
    assert actions.plan.join.server == "https://10.1.0.5:6443"
    assert actions.plan.role is Role.WORKER


def test_a_worker_stays_with_the_server_it_joined_through() -> None:
    decision = Decision("kairos-1", A, "1", (C,), 1)
    servers = (ApiServer(A, "kairos-1", "10.1.0.5"), ApiServer(C, "kairos-1", "10.1.0.6"))
    state = local(decision, join_token=JoinToken(SecretStr("K10")))
    first = reconcile(view(B, servers=servers), spec(), state, MOMENT)
    lost = view(B, servers=servers, alive=frozenset((B, C)))
    runs = replace(first.local, engine=EngineStatus(EngineState.READY))
    assert reconcile(lost, spec(), runs, MOMENT).plan == first.plan
    assert reconcile(lost, spec(), first.local, MOMENT).plan.join.server == "https://10.1.0.6:6443", "it never joined"
    assert reconcile(lost, spec(), state, MOMENT).plan.join.server == "https://10.1.0.6:6443"


def joined_through(server: str, *servers: ApiServer) -> str:
    """Return through which server a worker joins that joined through the first of them earlier."""
    decision = Decision("kairos-1", A, "1", (C,), 1)
    state = local(decision, join_token=JoinToken(SecretStr("K10")))
    first = reconcile(view(B, servers=(ApiServer(A, "kairos-1", server),)), spec(), state, MOMENT)
    return reconcile(view(B, servers=servers), spec(), first.local, MOMENT).plan.join.server


def test_a_worker_follows_its_only_server_to_another_address() -> None:
    assert joined_through("10.1.0.5", ApiServer(A, "kairos-1", "10.1.0.9")) == "https://10.1.0.9:6443"


def test_a_worker_stays_while_a_server_is_where_it_was_since_kubernetes_learns_the_rest_there() -> None:
    decision = Decision("kairos-1", A, "1", (C,), 1)
    a, c = ApiServer(A, "kairos-1", "10.1.0.5"), ApiServer(C, "kairos-1", "10.1.0.6")
    state = local(decision, join_token=JoinToken(SecretStr("K10")))
    plans = []
    moved = replace(a, endpoint="10.1.0.9"), replace(c, endpoint="10.1.0.8")
    for servers in ((a, c), (moved[0], c), moved, (replace(a, endpoint="10.1.0.7"), replace(c, endpoint="10.1.0.4"))):
        actions = reconcile(view(B, servers=servers), spec(), state, MOMENT)
        state = replace(actions.local, engine=EngineStatus(EngineState.READY))
        plans.append(actions.plan.join.server)
    assert plans == ["https://10.1.0.5:6443"] * 3 + ["https://10.1.0.7:6443"]


def test_the_initialiser_starts_with_the_token_that_took_the_place_of_the_derived_one() -> None:
    for number, token in ((0, "token of kairos-1"), (1, "K10")):
        state = local(DECISION, join_token=JoinToken(SecretStr("K10"), number))
        plan = reconcile(view(A), spec(), state, MOMENT).plan
        assert (plan.join, plan.cluster_token.get_secret_value()) == (None, token)


def test_the_initialiser_of_several_masters_knows_a_living_one_that_it_would_join() -> None:
    decision = Decision("kairos-1", A, "1", (B, C), 1)
    b, c = ApiServer(B, "kairos-1", "10.1.0.5"), ApiServer(C, "kairos-1", "10.1.0.6")
    alone = reconcile(view(A), spec(), local(decision), MOMENT)
    assert (alone.plan.role, alone.plan.rejoin) == (Role.CLUSTER_INIT, None)
    state, plans = alone.local, []
    for seen in (view(A, servers=(c,)), view(A, servers=(b, c)), view(A, servers=(b, c), alive=frozenset((A, B)))):
        actions = reconcile(seen, spec(), state, MOMENT)
        state = actions.local
        plans.append(actions.plan)
    servers = ["https://10.1.0.6:6443"] * 2 + ["https://10.1.0.5:6443"]
    assert [plan.rejoin for plan in plans] == servers, "it stays with the first one while that lives"
    assert {replace(plan, rejoin=None) for plan in plans} == {alone.plan}, "and it joins nobody while it runs"
    cut_off = reconcile(view(A, servers=(b, c), alive=frozenset((A,))), spec(), state, MOMENT)
    assert cut_off.plan.rejoin == servers[-1], "the others may give it up meanwhile"


def test_a_lone_master_has_nobody_to_join() -> None:
    servers = (ApiServer(C, "kairos-1", "10.6.6.6"),)
    assert reconcile(view(A, servers=servers), spec(), local(DECISION), MOMENT).plan.rejoin is None


def test_nobody_believes_an_api_server_that_is_no_master() -> None:
    servers = (ApiServer(C, "kairos-1", "10.6.6.6"),)
    state = local(DECISION, join_token=JoinToken(SecretStr("K10")))
    assert reconcile(view(B, servers=servers), spec(), state, MOMENT).plan is None


def test_a_wiped_initialiser_does_not_initialise_again() -> None:
    wiped = view(A, nodes={**view(A).nodes, A: Node(A, "n0", incarnation="2")})
    actions = reconcile(wiped, spec(), local(DECISION), MOMENT)
    assert actions.plan is None
    assert "will not initialise a second one" in actions.message


def test_a_second_forced_master_without_ha_is_no_second_cluster() -> None:
    forced = view(B, nodes={**view(B).nodes, B: Node(B, "n1", wish=Role.MASTER)})
    actions = reconcile(forced, spec(wish=Role.MASTER), local(DECISION), MOMENT)
    assert actions.plan is None
    assert "needs p2p.auto.ha" in actions.message


def test_ha_masters_join_as_servers_and_a_newcomer_fills_a_free_place() -> None:
    decision = Decision("kairos-1", A, "1", (B,), 2)
    reports = {C: Report(role="worker")}
    nodes = {**view(A).nodes, D: Node(D, "n3")}
    state = view(A, nodes=nodes, alive=frozenset((A, B, C, D)), reports=reports)
    first = reconcile(state, spec(), local(decision), MOMENT)
    assert first.role is Role.CLUSTER_INIT
    assigned = next(p.value["ha"] for p in first.publish if p.bucket == "assignments")
    assert assigned == [B.public_key, D.public_key], "C runs as a worker already and stays one"
    waiting = reconcile(replace(state, me=D), spec(), local(decision), MOMENT)
    assert (waiting.role, waiting.phase) == (None, "waiting")
    told = replace(state, me=D, assignments={("kairos-1", A): (B, D)}, epochs={("kairos-1", A): 1})
    assert reconcile(told, spec(), local(decision), MOMENT).role is Role.HA


def test_further_masters_join_one_at_a_time_and_none_waits_for_ever() -> None:
    decision = Decision("kairos-1", A, "1", (B, C), 2)
    servers = (ApiServer(A, "kairos-1", "10.1.0.5"),)
    state = local(decision, join_token=JoinToken(SecretStr("K10")))

    def look(me: PeerId, local: Local = state, now: float = 100.0, **engines: str) -> Actions:
        reports = {peer: Report(engine=engines.get(name, "")) for peer, name in ((A, "a"), (B, "b"), (C, "c"))}
        return reconcile(view(me, servers=servers, reports=reports), spec(), local, Moment(now, lambda: 0.5))

    assert look(B).plan is not None
    waits = look(C, b="starting")
    assert (waits.plan, waits.phase, waits.message) == (None, "waiting", "waiting for n1: masters join one at a time")
    assert waits.local.durable.served == ""
    assert waits.wake_at == 100.0 + TURN
    for engine in ("ready", "failed"):
        assert look(C, b=engine).plan is not None
    later = look(C, waits.local, now=waits.wake_at, b="starting")
    assert later.plan is not None
    # Who serves already is no newcomer, whatever the others do.
    assert look(C, replace(serving(decision, intent=None), join_token=state.join_token), b="starting").plan is not None


def test_a_ready_master_shares_the_token_with_nodes_and_the_kubeconfig_with_masters_and_operators() -> None:
    nodes = {**view(A).nodes, D: Node(D, "laptop", kind="operator")}
    ready = serving(DECISION)
    actions = reconcile(view(A, nodes=nodes), spec(), ready, MOMENT)
    assert actions.share == {"join-token": (B, C), "kubeconfig": (A, D)}
    assert any(
        p.bucket == "clusters" and p.value == {"endpoint": "192.168.1.7", "generation": 1} for p in actions.publish
    )


def test_what_ran_ready_as_a_worker_is_no_api_server_yet() -> None:
    decision = Decision("kairos-1", A, "1", (B,), 1)
    servers = (ApiServer(A, "kairos-1", "10.1.0.5"),)
    state = serving(decision, serves=False, intent=None)
    state = replace(state, join_token=JoinToken(SecretStr("K10")))
    actions = reconcile(view(B, servers=servers), spec(), state, MOMENT)
    assert (actions.role, actions.phase) == (Role.HA, "starting")
    assert not any(p.bucket == "clusters" for p in actions.publish)
    assert actions.local.durable.serves


def test_a_master_of_an_earlier_generation_keeps_its_data_and_waits() -> None:
    state = view(A, generation=2)
    moved = reconcile(state, spec(), serving(DECISION), MOMENT)
    assert (moved.role, moved.decision, moved.plan) == (None, None, None)
    assert moved.local.durable.generation == 2
    assert moved.local.durable.past == ("kairos-1",)
    assert moved.local.durable.served == "kairos-1"
    durable = replace(moved.local.durable, ballots=Ballots(decided=Decision("kairos-2", B, "1", generation=2)))
    held = reconcile(state, spec(), replace(moved.local, durable=durable), MOMENT)
    assert (held.phase, held.plan) == ("waiting", None)
    assert "kairos cluster adopt kairos-2" in held.message


def test_of_two_clusters_the_larger_stays_then_the_earlier_round_then_the_lower_id() -> None:
    stays = Decision("kairos-9", A, "1", seen=3, round=7)
    for other in (
        Decision("kairos-1", B, "1", seen=2, round=1),
        Decision("kairos-1", B, "1", seen=3, round=8),
        Decision("kairos-99", B, "1", seen=3, round=7),
    ):
        both = view(C, claims={A: stays, B: other})
        assert stronger(both, stays, has_begun=False) is None
        assert stronger(both, other, has_begun=False) == stays
        only_decided = view(C, claims={C: stays, B: other})
        assert stronger(only_decided, other, has_begun=True) is None, "a cluster that nobody has begun fences nobody"


def test_an_initialiser_that_sees_another_cluster_before_it_begins_joins_that_one() -> None:
    other = Decision("kairos-2", B, "1")
    actions = reconcile(view(A, claims={B: other}), spec(), local(DECISION), MOMENT)
    assert actions.decision == other
    assert (actions.role, actions.local.durable.intent) == (Role.WORKER, None)


def test_the_assignment_counts_its_epochs_and_only_changes() -> None:
    decision = Decision("kairos-1", A, "1", (B,), 2)
    nodes = {**view(A).nodes, D: Node(D, "n3")}
    here = frozenset((A, B, C, D))
    first = reconcile(
        view(A, nodes=nodes, alive=here, reports={C: Report(role="worker")}), spec(), local(decision), MOMENT
    )
    [value] = [p.value for p in first.publish if p.bucket == "assignments"]
    assert (value["generation"], value["epoch"]) == (1, 1)
    told = view(A, nodes=nodes, alive=here, assignments={("kairos-1", A): (B, D)}, epochs={("kairos-1", A): 1})
    again = reconcile(told, spec(), local(decision), MOMENT)
    assert [p.value["epoch"] for p in again.publish if p.bucket == "assignments"] == [1]


def test_an_operator_and_a_node_of_no_role_run_nothing() -> None:
    for changes in ({"kind": "operator", "rules": Rules("kairos", votes=False)}, {"wish": Role.NONE}):
        nodes = {**view(B).nodes, B: Node(B, "n1", wish=Role.NONE)}
        actions = reconcile(view(B, nodes=nodes), spec(**changes), local(DECISION), MOMENT)
        assert actions.plan is None
        assert actions.phase == "ready"


def test_without_automatic_roles_the_file_decides() -> None:
    actions = reconcile(view(B), spec(automatic=False, wish=Role.MASTER), local(), MOMENT)
    assert (actions.role, actions.plan.join, actions.plan.cluster_token) == (Role.MASTER, None, None)


def test_two_machines_of_one_host_name_get_two_node_names() -> None:
    twins = {peer: Node(peer, "edge", incarnation="1") for peer in (A, B)}
    names = {
        reconcile(view(me, nodes=twins), spec(name="edge", automatic=False, wish=Role.MASTER), local(), MOMENT)
        .plan.node_name
        for me in (A, B)
    }  # fmt: skip
    assert len(names) == 2


BUCKETS = st.sampled_from(
    [
        "peers",
        "reports",
        "prepares",
        "registers",
        "proposals",
        "clusters",
        "assignments",
        "roles",
        "generations",
        "decisions",
    ]
)
JSON = st.recursive(
    st.none() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=5) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(BUCKETS, st.text(min_size=1, max_size=20), JSON), max_size=10))
def test_a_member_that_writes_nonsense_harms_nobody(rows: list[tuple[str, str, object]]) -> None:
    entries = [Entry(bucket, key, pack(value), A, 1) for bucket, key, value in rows]
    seen = read_view(entries, B, frozenset((A,)), "kairos")
    reconcile(seen, spec(), local(), MOMENT)
