import errno
import os
import stat
from pathlib import Path

import pytest

from kairos_core.cluster.controller import Durable
from kairos_core.cluster.quorum import Ballot, Ballots, Decision, Register
from kairos_core.errors import StoreError
from kairos_core.model import PeerId
from kairos_core.runtime import state as state_module
from kairos_core.runtime.state import StateDirectory

PEER = PeerId(b"p" * 32)
BALLOT = Ballot(7, PEER)
DECISION = Decision("kairos-0123", PEER, "inc", (PEER,), 2)
FULL = Durable("inc", Ballots(Register(BALLOT, BALLOT, DECISION), 9, DECISION), "kairos-0123", "edge-1")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_in_it_is_for_the_agent_alone(tmp_path):
    before = os.umask(0)
    try:
        state = StateDirectory(tmp_path / "deep" / "state")
        state.identity()
        state.durable()
        state.ledger_directory()
    finally:
        os.umask(before)
    assert mode(state.path) == mode(state.ledger_directory()) == 0o700
    assert {path.name: mode(path) for path in state.path.iterdir() if path.is_file()} == {
        "identity": 0o600,
        "election.json": 0o600,
        "lock": 0o600,
    }


def test_the_identity_is_made_once_and_kept(tmp_path):
    first = StateDirectory(tmp_path)
    peer = first.identity().peer_id
    assert first.identity().peer_id == peer
    os.close(first._lock)
    assert StateDirectory(tmp_path).identity().peer_id == peer


def test_two_machines_have_two_identities_and_two_incarnations(tmp_path):
    one, two = StateDirectory(tmp_path / "1"), StateDirectory(tmp_path / "2")
    assert one.identity().peer_id != two.identity().peer_id
    assert one.durable().incarnation != two.durable().incarnation


@pytest.mark.parametrize("durable", [Durable("inc"), FULL], ids=["first", "full"])
def test_what_is_saved_is_read_again(tmp_path, durable):
    state = StateDirectory(tmp_path)
    state.save(durable)
    assert state.durable() == durable


def test_a_second_agent_on_the_directory_is_refused_until_the_first_has_ended(tmp_path):
    first = StateDirectory(tmp_path)
    with pytest.raises(StoreError, match=r"in use by another agent\. Stop it first"):
        StateDirectory(tmp_path)
    os.close(first._lock)
    StateDirectory(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_identity_is_named_and_never_replaced(tmp_path, content):
    (tmp_path / "identity").write_bytes(content)
    with pytest.raises(StoreError, match=f"has {len(content)} bytes instead of 32.*Restore it"):
        StateDirectory(tmp_path).identity()
    assert (tmp_path / "identity").read_bytes() == content


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "5", "\xff"),
        '{"incarnation": "i", "intent": null, "node_name": null, "max_round": 1, "register": "zz", "decided": null}',
        '{"incarnation": "i", "intent": null, "node_name": null, "max_round": 1, "register": "c1", "decided": null}',
        '{"incarnation": "i", "intent": null, "node_name": null, "max_round": null, "register": null, "decided": null}',
        '{"incarnation": "i", "intent": null, "node_name": null, "max_round": 1, "register": null, "decided": "90"}',
    ],
)
def test_a_damaged_election_file_is_named_and_never_replaced(tmp_path, text):
    (tmp_path / "election.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match=r"election\.json is damaged .*could vote twice"):
        StateDirectory(tmp_path).durable()
    assert (tmp_path / "election.json").read_bytes() == text.encode("latin-1")


def test_a_save_that_fails_leaves_the_old_file_whole_and_no_rubbish(tmp_path, monkeypatch):
    state = StateDirectory(tmp_path)
    state.save(FULL)
    before = sorted(path.name for path in tmp_path.iterdir())

    def full_disk(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(state_module.os, "fsync", full_disk)
    with pytest.raises(StoreError, match=r"cannot save .*No space left on device. Free some space"):
        state.save(Durable("other"))
    monkeypatch.undo()
    assert state.durable() == FULL
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_file_and_its_directory_reach_the_disk_before_a_save_returns(tmp_path, monkeypatch):
    state, synced = StateDirectory(tmp_path), []
    fsync = os.fsync

    def recording(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(state_module.os, "fsync", recording)
    state.save(FULL)
    assert [path.name.startswith(".election.json.") for path in synced] == [True, False]
    assert synced[1] == tmp_path


def test_a_path_that_cannot_be_a_directory_is_one_clear_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match=r"cannot make or write the state directory .*set --state"):
            StateDirectory(path)


@pytest.mark.parametrize(("number", "advice"), [(errno.ENOSPC, "Free some space"), (errno.EROFS, "set --state")])
def test_a_disk_on_which_nothing_can_be_made_is_one_clear_sentence(tmp_path, monkeypatch, number, advice):
    state = StateDirectory(tmp_path / "state")

    def refused(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(state_module.Path, "mkdir", refused)
    with pytest.raises(StoreError, match=advice):
        state.ledger_directory()
    monkeypatch.undo()
    monkeypatch.setattr(state_module.os, "open", refused)
    with pytest.raises(StoreError, match=advice):
        StateDirectory(tmp_path / "other")
