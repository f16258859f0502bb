"""The view that is kept up to date is the one that is read afresh, whatever comes, goes and expires."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kairos_core.cluster.quorum import Ballot, Decision, Register
from kairos_core.cluster.reading import Reading, read_view
from kairos_core.cluster.view import View
from kairos_core.model import PeerId, Role
from kairos_core.protocol import buckets
from kairos_core.protocol.clock import MAX_AHEAD, stamp
from kairos_core.protocol.entry import TOMBSTONE, Entry, pack
from kairos_core.protocol.identity import Identity
from kairos_core.protocol.ledger import Ledger, draft, is_visible
from kairos_core.protocol.seal import is_exchange_key

PEERS = [PeerId(bytes([number]) * 32) for number in (1, 2, 3)]
NOW = 1_800_000_000.0
KEY = bytes([9]) * 32
NODE = {"network_id": "net", "name": "n", "incarnation": "1", "seal_key": KEY}
DECISION = Decision("net-1", PEERS[0], "1")


def of_election(bucket: str, value: object) -> st.SearchStrategy[tuple[str, str, object]]:
    generation = st.sampled_from(["net/1", "net/2", "other/1"])
    return generation.map(lambda prefix: (bucket, prefix + "/{author}", value))


def ballot(peer: PeerId, round: int) -> Ballot:
    return Ballot(round, peer)


def written(bucket: str, key: str, *values: object) -> st.SearchStrategy[tuple[str, str, object]]:
    return st.sampled_from(values).map(lambda value: (bucket, key, value))


CONTENTS = st.one_of(
    written(
        buckets.PEERS, "{author}", NODE, {**NODE, "wish": "none"}, {**NODE, "kind": "operator"}, {**NODE, "wish": 7}
    ),
    written(buckets.PEERS, "else/{author}", NODE),
    written(buckets.REPORTS, "{author}", {"role": "worker"}, {"phase": "ready"}, 5),
    written(buckets.GENERATIONS, "net/{author}", [b"\0\0\0\1", None], [b"\0\0\0\2", None], [b"\1", None], [7, 8]),
    of_election(buckets.PREPARES, "ballot"),
    of_election(buckets.REGISTERS, "register"),
    of_election(buckets.PROPOSALS, "proposal"),
    of_election(buckets.DECISIONS, DECISION.encode()),
    written(buckets.CLUSTERS, "net-1/{author}", {"endpoint": "10.1.0.1"}, {"endpoint": "10.1.0.2"}, []),
    written(buckets.CLUSTERS, "net-2/{author}", {"endpoint": "10.1.0.3"}),
    written(
        buckets.ASSIGNMENTS,
        "net-1/{author}",
        {"ha": [PEERS[1].public_key], "epoch": 1},
        {"ha": []},
        {"ha": 4},
        {"ha": [], "epoch": float("inf")},
    ),
    written(buckets.ROLES, str(PEERS[1]), {"role": "worker"}, {"role": "king"}),
    written(buckets.VALUES, "colour", "blue"),
)

TIMES = st.sampled_from([0.0, 1.0, 5.0, MAX_AHEAD, MAX_AHEAD + 1.0, 86_400.0])


def value_of(name: object, author: PeerId, round: int) -> object:
    match name:
        case "ballot":
            return [ballot(author, round).encode(), None]
        case "register":
            return Register(ballot(author, round), ballot(PEERS[0], round), DECISION).encode()
        case "proposal":
            return [ballot(author, round).encode(), DECISION.encode()]
        case _:
            return name


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    bucket, key, name = draw(CONTENTS)
    author = draw(st.sampled_from(PEERS))
    hlc = stamp(NOW + draw(TIMES)) + draw(st.integers(0, 9))
    flags = draw(st.sampled_from([0, 0, 0, TOMBSTONE]))
    value = b"" if flags else pack(value_of(name, author, draw(st.integers(1, 3))))
    return Entry(bucket, key.format(author=author), value, author, hlc, flags, draw(st.sampled_from([3, 600, 86_400])))


STEPS = st.lists(
    st.one_of(entries(), st.integers(0, 20), st.sampled_from([-700.0, 0.5, 2.0, 10.0, 650.0])), min_size=1, max_size=25
)


@given(STEPS, st.lists(st.sampled_from([0, 1, 3]), min_size=25, max_size=25))
def test_a_kept_view_equals_a_fresh_one_after_any_changes(steps: list[Entry | int | float], least: list[int]) -> None:
    assert is_exchange_key(KEY)
    held: dict[tuple[str, str], Entry] = {}
    reading, now, alive = Reading("net"), NOW, frozenset(PEERS[:2])
    for step, generation in zip(steps, least, strict=False):
        if isinstance(step, Entry):
            place = (step.bucket, step.key)
            if place in held:
                reading.note(held[place], stands=False)
            held[place] = step
            reading.note(step, stands=True)
        elif isinstance(step, int):
            for place in list(held)[step : step + 1]:
                reading.note(held.pop(place), stands=False)
        else:
            now += step
        visible = [entry for entry in held.values() if is_visible(entry, now)]
        fresh = read_view(visible, PEERS[0], alive, "net", generation)
        assert reading.view(PEERS[0], alive, now, generation) == fresh
        assert read_view(reversed(visible), PEERS[0], alive, "net", generation) == fresh, "no order of arrival counts"


def test_nothing_new_is_the_same_view_and_what_an_older_one_saw_stays() -> None:
    identity = Identity(bytes(32))
    ledger, reading = Ledger(bytes(16)), Reading("net")
    ledger.write(identity, draft(identity.peer_id, buckets.REPORTS, str(identity.peer_id), {"phase": "waiting"}), NOW)
    ledger.follow(reading.note)  # the ledger has entries by then

    def look() -> View:
        return reading.view(identity.peer_id, frozenset(), NOW + 1.0)

    first = look()
    ledger.write(identity, draft(identity.peer_id, buckets.VALUES, "colour", "blue"), NOW)
    assert look() is first
    ledger.write(identity, draft(identity.peer_id, buckets.REPORTS, str(identity.peer_id), {"phase": "ready"}), NOW)
    assert first.reports[identity.peer_id].phase == "waiting"
    assert look().reports[identity.peer_id].phase == "ready"
    ledger.expire(NOW + 90_000.0)
    assert look().reports == {}


def test_a_second_key_of_the_same_author_is_not_read() -> None:
    author = PEERS[0]
    true = Entry(buckets.PEERS, str(author), pack(NODE), author, stamp(NOW))
    false = replace(true, key=f"else/{author}", value=pack({**NODE, "incarnation": "another"}))
    for entries in ([true, false], [false, true]):
        assert read_view(entries, author, frozenset(), "net").nodes[author].incarnation == "1"


def test_a_role_that_is_set_counts_before_the_one_configured() -> None:
    node = Entry(buckets.PEERS, str(PEERS[0]), pack({**NODE, "wish": "worker"}), PEERS[0], stamp(NOW))
    role = Entry(buckets.ROLES, str(PEERS[0]), pack({"role": "none"}), PEERS[1], stamp(NOW))
    view = read_view([node, role], PEERS[0], frozenset(), "net")
    assert (view.wish_of(PEERS[0]), view.candidates(), view.voters()) == (Role.NONE, (), frozenset())


def test_a_generation_out_of_reach_is_not_heard_of() -> None:
    def asks(author: PeerId, number: int) -> Entry:
        return Entry(buckets.GENERATIONS, f"net/{author}", pack([number.to_bytes(4), None]), author, stamp(NOW))

    last = asks(PEERS[0], (1 << 32) - 1)
    assert read_view([last], PEERS[0], frozenset(), "net").generation == 1
    assert read_view([last, asks(PEERS[1], 2)], PEERS[0], frozenset(), "net").generation == 2
    assert read_view([last], PEERS[0], frozenset(), "net", (1 << 32) - 5).generation == (1 << 32) - 1
