"""A cluster put into somebody's kubeconfig: theirs is kept, and no cluster takes another's name."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from kairos_core.cluster.merging import merge_kubeconfig
from kairos_core.errors import ConfigError, EngineError

OURS = """\
apiVersion: v1
clusters:
- cluster: {certificate-authority-data: T1VSUw==, server: 'https://10.1.0.7:6443'}
  name: kairos
contexts:
- context: {cluster: kairos, user: kairos}
  name: kairos
current-context: kairos
kind: Config
users:
- name: kairos
  user: {client-key-data: S0VZ}
"""
THEIRS = """\
apiVersion: v1
clusters:
- cluster: {certificate-authority-data: VEhFSVJT, server: 'https://work.example'}
  name: work
contexts:
- context: {cluster: work, namespace: shop, user: me}
  name: work
current-context: work
kind: Config
preferences: {colors: true}
users:
- name: me
  user: {token: secret-of-work}
"""


def names(text: str, section: str) -> list[str]:
    return [record["name"] for record in yaml.safe_load(text)[section]]


@pytest.mark.parametrize("nothing", ["", "\n", "apiVersion: v1\nkind: Config\nclusters: null\n"])
def test_into_nothing_it_is_the_cluster_alone(nothing: str) -> None:
    merged = yaml.safe_load(merge_kubeconfig(nothing, OURS, "edge"))
    assert merged["clusters"][0]["cluster"]["server"] == "https://10.1.0.7:6443"
    assert merged["users"] == [{"name": "edge", "user": {"client-key-data": "S0VZ"}}]
    assert merged["contexts"] == [{"name": "edge", "context": {"cluster": "edge", "user": "edge"}}]
    assert (merged["kind"], merged["current-context"]) == ("Config", "edge")


def test_what_was_there_is_kept_and_ours_is_the_current_context() -> None:
    merged = yaml.safe_load(merge_kubeconfig(THEIRS, OURS, "kairos"))
    before = yaml.safe_load(THEIRS)
    for section in ("clusters", "users", "contexts"):
        assert merged[section][0] == before[section][0]
        assert len(merged[section]) == 2
    assert (merged["preferences"], merged["current-context"]) == ({"colors": True}, "kairos")


def test_the_same_cluster_is_replaced_in_place_of_its_old_address() -> None:
    once = merge_kubeconfig(THEIRS, OURS, "kairos")
    assert merge_kubeconfig(once, OURS, "kairos") == once
    moved = merge_kubeconfig(once, OURS.replace("10.1.0.7", "10.1.0.9"), "kairos")
    assert names(moved, "clusters") == ["work", "kairos"]
    assert "10.1.0.9" in moved
    assert "10.1.0.7" not in moved


def test_another_cluster_of_the_name_is_kept_unless_it_shall_be_replaced() -> None:
    with pytest.raises(ConfigError, match=r"another cluster is called 'work'.*--context NAME.*--replace"):
        merge_kubeconfig(THEIRS, OURS, "work")
    assert names(merge_kubeconfig(THEIRS, OURS, "work", replace=True), "clusters") == ["work"]


@pytest.mark.parametrize(
    "text", ["[]", "kind: List", "kind: Config\nclusters: {a: b}", "a: b: c", "kind: Config\nusers: [1]"]
)
def test_what_is_no_kubeconfig_is_left_alone(text: str) -> None:
    with pytest.raises(ConfigError, match="the file to merge into is not a kubeconfig"):
        merge_kubeconfig(text, OURS, "kairos")


def test_an_answer_that_is_no_kubeconfig_is_the_engine_s_fault() -> None:
    for text in ("nonsense", THEIRS.replace("kind: Config", "kind: Other"), "kind: Config\nclusters: []\n"):
        with pytest.raises(EngineError, match="the engine gave out"):
            merge_kubeconfig(THEIRS, text, "kairos")


@example(name="\x85", replace=False)
@given(st.text(min_size=1).filter(lambda name: name not in ("work", "me")), st.booleans())
def test_any_name_comes_back_and_nothing_else_changes(name: str, replace: bool) -> None:
    merged = yaml.safe_load(merge_kubeconfig(THEIRS, OURS, name, replace=replace))
    assert merged["current-context"] == name
    before = yaml.safe_load(THEIRS)
    for section in ("clusters", "users", "contexts"):
        assert [record for record in merged[section] if record["name"] != name] == before[section]


def test_no_error_shows_a_secret() -> None:
    broken = THEIRS + "  : - [\n"
    with pytest.raises(ConfigError) as caught:
        merge_kubeconfig(broken, OURS, "kairos")
    assert "secret-of-work" not in str(caught.value)
