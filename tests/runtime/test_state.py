import errno
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from kairos_core.cluster.durable import Durable, Leaving, fenced_off, forgotten
from kairos_core.cluster.quorum import Ballot, Ballots, Decision, Recovery, Register
from kairos_core.errors import StoreError
from kairos_core.model import PeerId
from kairos_core.runtime.state import StateDirectory, come_back, has_left

PEER = PeerId(b"p" * 32)
NETWORK = b"n" * 16


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_machine_keeps_its_identity_and_shows_it_to_nobody_else(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    first = state.identity()
    assert state.identity().peer_id == first.peer_id
    assert mode(tmp_path / "state") == 0o700
    assert mode(tmp_path / "state/identity") == 0o600


def test_what_was_promised_is_there_after_a_restart(tmp_path: Path) -> None:
    election = StateDirectory(tmp_path).election(NETWORK, "kairos")
    ballot, value = Ballot(3, PEER), Decision("kairos-1", PEER, "i", (PEER,), 2)
    ballots = Ballots(Register(ballot, ballot, value), 7, value)
    saved = replace(election.load(), ballots=ballots, intent="kairos-1", node_name="edge")
    election.save(saved)
    assert election.load() == saved
    assert [mode(file) for file in tmp_path.glob("election-*")] == [0o600]


def test_a_fresh_disk_has_a_new_incarnation_and_keeps_it(tmp_path: Path) -> None:
    one = StateDirectory(tmp_path / "one").election(NETWORK, "kairos")
    other = StateDirectory(tmp_path / "other").election(NETWORK, "kairos")
    assert one.load().incarnation == one.load().incarnation != other.load().incarnation


def test_another_token_or_network_id_is_another_election_and_the_first_is_not_forgotten(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    first = state.election(NETWORK, "kairos")
    first.save(replace(first.load(), intent="kairos-1"))
    assert state.election(NETWORK, "other").load().intent is None
    assert state.election(b"m" * 16, "kairos").load().intent is None
    assert state.election(NETWORK, "kairos").load().intent == "kairos-1"


def election_text(**damage: object) -> str:
    sound = {"incarnation": "i", "intent": None, "node_name": None, "max_round": 1, "register": None, "decided": None}
    return json.dumps(sound | damage)


DAMAGED = (
    *("", "{", "[]", "5", "\xff", '{"incarnation": 1}', '{"register": "zz"}'),
    *(election_text(register=text) for text in ("zz", "c1", "90", 5)),
    *(election_text(decided=text) for text in ("c1", "90", "80")),
    election_text(max_round=None),
)


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_election_stops_the_machine_instead_of_voting_twice(tmp_path: Path, content: str) -> None:
    election = StateDirectory(tmp_path).election(NETWORK, "kairos")
    election.load()
    file = next(tmp_path.glob("election-*"))
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(StoreError, match="could vote twice"):
        election.load()
    assert file.read_bytes() == content.encode("latin-1"), "what may be rescued is not replaced"


def test_all_that_a_node_must_not_forget_survives(tmp_path: Path) -> None:
    election = StateDirectory(tmp_path).election(NETWORK, "kairos")
    recovery = Recovery(Ballot(1 << 33, PEER), 2)
    saved = Durable(
        "i", Ballots(max_round=1 << 33, recovery=recovery), generation=3, runs="k-2", serves=True, past=("k-1",)
    )
    election.save(saved)
    assert election.load() == saved


def test_a_machine_whose_election_file_is_lost_comes_back_as_a_voter_without_memory(tmp_path: Path) -> None:
    election = StateDirectory(tmp_path).election(NETWORK, "kairos")
    before = election.load()
    assert before.ballots.recovery is None, "a new machine is a plain new voter"
    next(tmp_path.glob("election-*")).unlink()
    after = election.load()
    assert after.ballots.recovery == Recovery()
    assert after.incarnation != before.incarnation
    assert election.load() == after


def test_an_older_self_in_the_ledger_is_a_lost_memory_only_for_a_fresh_file() -> None:
    fresh, used = Durable("new"), Durable("new", Ballots(max_round=1))
    assert forgotten(fresh, "old").ballots.recovery == Recovery()
    assert forgotten(fresh, "new") == forgotten(fresh, "") == fresh
    assert forgotten(used, "old") == used


def test_an_older_disk_gets_a_new_incarnation_unless_it_knows_its_cluster() -> None:
    before = Durable("old")
    lost = replace(before, ballots=Ballots(recovery=Recovery()))
    assert fenced_off(before, lost, lambda: 0.5).incarnation != "old"
    assert fenced_off(lost, lost, lambda: 0.5) == lost, "once"
    knows = replace(lost, intent="kairos-1")
    assert fenced_off(before, knows, lambda: 0.5) == knows


def test_a_damaged_identity_says_what_to_do(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    (tmp_path / "identity").write_bytes(b"short")
    with pytest.raises(StoreError, match="5 bytes instead of 32"):
        state.identity()


def test_two_agents_never_share_a_state_directory(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path)
    with pytest.raises(StoreError, match="in use by another agent"):
        StateDirectory(tmp_path)
    assert first.identity()
    os.close(first._lock)  # as its end would
    StateDirectory(tmp_path)


def test_a_directory_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make or write the state directory"):
        StateDirectory(tmp_path / "file" / "state")


def test_nothing_half_written_is_left_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    election = StateDirectory(tmp_path).election(NETWORK, "kairos")
    before = election.load()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        election.save(replace(before, intent="kairos-1"))
    monkeypatch.undo()
    assert election.load() == before
    assert not list(tmp_path.glob(".election*"))


def test_everything_in_it_is_for_the_agent_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        state = StateDirectory(tmp_path / "deep" / "state")
        state.identity()
        state.election(NETWORK, "kairos").load()
        state.ledger_directory()
    finally:
        os.umask(before)
    assert mode(state.path) == mode(state.ledger_directory()) == 0o700
    assert {mode(file) for file in state.path.iterdir() if file.is_file()} == {0o600}


def test_the_file_and_its_directory_reach_the_disk_before_a_save_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    election, synced = StateDirectory(tmp_path).election(NETWORK, "kairos"), []
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    election.load()
    files, directories = synced[0::2], synced[1::2]
    assert [path.name.split("-")[0] for path in files] == [".election", ".voter"]
    assert directories == [tmp_path, tmp_path]


@pytest.mark.parametrize(("number", "advice"), [(errno.ENOSPC, "Free some space"), (errno.EROFS, "set --state")])
def test_a_disk_on_which_nothing_can_be_made_is_one_clear_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    state = StateDirectory(tmp_path / "state")

    def refused(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refused)
        with pytest.raises(StoreError, match=advice):
            state.ledger_directory()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        with pytest.raises(StoreError, match=advice):
            StateDirectory(tmp_path)


def test_who_leaves_forgets_everything_and_comes_back_as_another(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    before = state.identity().peer_id
    election = state.election(NETWORK, "kairos")
    election.save(replace(election.load(), leaving=Leaving.ORDERLY, runs="kairos-1"))
    (state.ledger_directory() / "entries").write_bytes(b"x")
    assert not has_left(state.path)
    state.forget()
    assert has_left(state.path)
    assert sorted(file.name for file in state.path.iterdir()) == ["left", "lock"]
    state.forget()  # as after a crash in the middle
    state.release()
    assert come_back(state.path)
    assert not come_back(state.path)
    again = StateDirectory(state.path)
    assert again.identity().peer_id != before
    assert again.election(NETWORK, "kairos").load().leaving is Leaving.NO


def test_that_it_leaves_survives_a_restart(tmp_path: Path) -> None:
    election = StateDirectory(tmp_path).election(NETWORK, "kairos")
    for how in Leaving:
        election.save(replace(election.load(), leaving=how))
        assert election.load().leaving is how
