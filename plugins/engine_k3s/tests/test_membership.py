"""What an operator is told whose master has another address."""

from __future__ import annotations

import pytest
from kairos_engine_k3s.journal import JOURNAL
from kairos_engine_k3s.launch import Launch
from kairos_engine_k3s.membership import way_back

LAUNCH = Launch("k3s", ("server", "--node-name=edge-1", "--node-ip=10.0.0.9", "--cluster-init"), {})
WORDS = "k3s says: Failed to test data store connection: this server is a not a member of the etcd cluster. "


@pytest.mark.parametrize("label", ["data store", "etcd"])
def test_the_only_master_is_told_the_command_that_gives_etcd_its_address(label: str) -> None:
    words = WORDS.replace("data store", label)
    found = "Found [edge-1-0a1b2c3d=https://10.0.0.5:2380], expect: edge-1-0a1b2c3d=https://10.0.0.9:2380"
    advice = way_back(words + found, LAUNCH)
    assert "its old address 10.0.0.5, and now it has 10.0.0.9" in advice
    command = "k3s server --cluster-reset --node-name=edge-1 --node-ip=10.0.0.9"
    assert advice.endswith(f"run: kairos engine stop; {command}; kairos engine start")
    assert len(advice) <= 256, "a status is cut there"


def test_the_operators_data_directory_is_named_too() -> None:
    launch = Launch("k3s", ("server", "--data-dir=/srv/k3s", "--node-ip=10.0.0.9"), {})
    found = "Found [a-0a=https://10.0.0.5:2380], expect: a-0a=https://10.0.0.9:2380"
    assert "--cluster-reset --data-dir=/srv/k3s --node-ip=10.0.0.9;" in way_back(WORDS + found, launch)


def test_one_of_several_is_told_to_join_anew_and_never_to_reset() -> None:
    found = (
        "Found [edge-2-99=https://10.0.0.6:2380 edge-1-0a=https://[fd00::5]:2380 edge-3-77=https://10.0.0.7:2380], "
        "expect: edge-1-0a=https://[fd00::9]:2380"
    )
    advice = way_back(WORDS + found, LAUNCH)
    assert "its old address fd00::5, and now it has fd00::9" in advice
    assert "kubectl delete node edge-1;" in advice
    assert "reset" not in advice
    assert len(advice) <= 256


def test_who_is_not_in_the_list_is_no_member_any_more() -> None:
    found = "Found [edge-2-99=https://10.0.0.6:2380], expect: edge-1-0a=https://10.0.0.9:2380"
    assert "no member" in way_back(WORDS + found, LAUNCH)


@pytest.mark.parametrize("text", ["", "k3s says: 401 Unauthorized", WORDS, WORDS + "Found [], expect: nothing"])
def test_other_complaints_have_no_advice_here(text: str) -> None:
    assert way_back(text, LAUNCH) == ""


@pytest.mark.parametrize("url", ["https://[", "nonsense", "=", "https://10.0.0.5:99999999"])
def test_a_damaged_list_breaks_nothing(url: str) -> None:
    assert isinstance(way_back(f"{WORDS}Found [a={url}], expect: a={url}", LAUNCH), str)


def test_no_waiting_mends_it() -> None:
    line = f'time="2026-11-20T15:33:52Z" level=info msg="{WORDS}Found [a=https://x:2380], expect: a=https://y:2380"'
    complaint = JOURNAL.last_complaint(line)
    assert complaint is not None
    assert complaint.is_hopeless
