from __future__ import annotations

import json
from pathlib import Path

import pytest

from kairos_core.testing.k0s.flags import UsageError, parse
from kairos_core.testing.k0s.members import etcd
from kairos_core.testing.k0s.places import Refused

ETCD = "spec: {storage: {type: etcd, etcd: {peerAddress: 10.1.0.1}}}\n"


@pytest.fixture
def removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two members, behind a controller that is not there; what is removed of them is noted."""
    noted: list[str] = []

    def members(_: object, method: str = "GET", body: dict[str, str] | None = None) -> dict[str, str]:
        noted.extend([body["name"]] if body else [])
        return {"a": "https://10.1.0.1:6443", "b": "https://[fd00::2]:6443"}

    monkeypatch.setattr("kairos_core.testing.k0s.members._members", members)
    monkeypatch.setenv("KAIROS_STAND_IN_ROOT", str(tmp_path))
    (tmp_path / "etc/k0s").mkdir(parents=True)
    (tmp_path / "etc/k0s/k0s.yaml").write_text(ETCD)
    return noted


def test_members_are_listed_by_where_the_others_reach_them(
    removed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert etcd(parse("etcd", ["member-list"])) == 0
    listed = {"members": {"a": "https://10.1.0.1:2380", "b": "https://[fd00::2]:2380"}}
    assert json.loads(capsys.readouterr().out) == listed


@pytest.mark.parametrize(("argv", "name"), [(["--peer-address=fd00::2"], "b"), ([], "a")])
def test_a_member_leaves_by_its_address_and_this_one_without(argv: list[str], name: str, removed: list[str]) -> None:
    assert etcd(parse("etcd", ["leave", *argv])) == 0
    assert removed == [name]


def test_an_address_of_nobody_is_refused(removed: list[str]) -> None:
    with pytest.raises(Refused, match=r"peer not found: https://10\.1\.0\.9:2380"):
        etcd(parse("etcd", ["leave", "--peer-address=10.1.0.9"]))
    assert removed == []


def test_storage_that_is_no_etcd_has_no_members(removed: list[str], tmp_path: Path) -> None:
    (tmp_path / "etc/k0s/k0s.yaml").write_text("spec: {storage: {type: kine}}\n")
    with pytest.raises(Refused, match="wrong storage type: kine"):
        etcd(parse("etcd", ["member-list"]))


@pytest.mark.parametrize("argv", [["list"], [], ["leave", "10.1.0.1"], ["member-list", "--peer-address=10.1.0.1"]])
def test_other_commands_are_refused(argv: list[str], removed: list[str]) -> None:
    with pytest.raises(UsageError):
        etcd(parse("etcd", argv))


def test_without_a_controller_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAIROS_STAND_IN_ROOT", str(tmp_path))
    with pytest.raises(Refused, match="no such file"):
        etcd(parse("etcd", ["member-list"]))
