"""What servers of the stand-in agree on when nodes and members come, go and come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from kairos_core.testing.k3s.store import Heartbeat, Store


def beat(name: str, password: str = "own") -> Heartbeat:
    return Heartbeat(name, password, "10.1.0.1", ())


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store]:
    """Two servers of one cluster, `b` on the second."""
    one, two = (Store(tmp_path / name, shared=False) for name in ("one", "two"))
    one.initialise("etcd", "token", {})
    one.add_member("b", "https://b:6443")
    two.merge(one.copy())
    for _ in range(9):
        two.beat(beat("b"), is_first=False)
    one.merge(two.copy())
    return one, two


def names(store: Store) -> list[str]:
    return [name for name, _, _ in store.nodes(10.0)]


def test_a_deleted_node_does_not_come_back_by_the_heartbeats_of_its_own_server(stores: tuple[Store, Store]) -> None:
    one, two = stores
    one.forget("b")
    for _ in range(9):
        two.beat(beat("b"), is_first=False)  # it does not know yet
    one.merge(two.copy())
    assert names(one) == []
    two.merge(one.copy())
    two.beat(beat("b"), is_first=False)
    assert names(two) == []


def test_a_process_that_starts_registers_its_node_again_with_any_password(stores: tuple[Store, Store]) -> None:
    one, two = stores
    one.forget("b")
    one.beat(beat("b", "another"), is_first=True)
    two.merge(one.copy())
    assert names(one) == names(two) == ["b"]
    with pytest.raises(PermissionError):
        two.beat(beat("b"), is_first=True)


def test_a_cordon_reaches_all_and_ends_with_the_nodes_life(stores: tuple[Store, Store]) -> None:
    one, two = stores
    one.cordon("b")
    two.beat(beat("b"), is_first=False)
    two.merge(one.copy())
    assert [node["unschedulable"] for _, node, _ in two.nodes(10.0)] == [True]
    one.forget("b")
    one.beat(beat("b"), is_first=True)
    two.merge(one.copy())
    assert [node["unschedulable"] for _, node, _ in two.nodes(10.0)] == [False]


def test_a_member_that_was_removed_knows_it_and_can_join_again(stores: tuple[Store, Store]) -> None:
    one, two = stores
    one.remove_member("b")
    one.merge(two.copy())
    two.merge(one.copy())
    assert one.members() == two.members() == {}
    assert two.was_removed("b")
    assert not two.was_removed("stranger")
    one.add_member("b", "https://b:7443")
    two.merge(one.copy())
    assert two.members() == {"b": "https://b:7443"}
    assert not two.was_removed("b")
