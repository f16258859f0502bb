"""The stand-in's tokens, and what is refused of a token, without a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from kairos_core.testing.k0s.controller import inner_arguments, token_text
from kairos_core.testing.k0s.flags import parse
from kairos_core.testing.k0s.places import Places, Refused
from kairos_core.testing.k0s.tokens import create_token, open_token


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose controller has started."""
    monkeypatch.setenv("KAIROS_STAND_IN_ROOT", str(tmp_path))
    for name, text in (
        ("etc/k0s/k0s.yaml", "spec: {api: {address: 10.1.0.7, port: 6444}}"),
        ("var/lib/k0s/pki/ca.crt", "PEM"),
        ("var/lib/k0s/stand-in/server/node-token", "K10f00d::server:password\n"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def _created(role: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert create_token(parse("token", ["create", f"--role={role}"])) == 0
    return capsys.readouterr().out.strip()


def test_a_token_says_where_to_join_whom_to_believe_and_a_secret(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = open_token(_created("worker", capsys), "worker")
    assert (token.server, token.authority) == ("https://10.1.0.7:6444", "PEM")
    assert token.secret == "K10f00d::server:password"


def test_each_token_is_another_text(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _created("worker", capsys) != _created("worker", capsys)


def test_a_token_for_the_other_role_and_what_is_none_are_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Refused, match="wrong token type kubelet-bootstrap"):
        open_token(_created("worker", capsys), "controller")
    with pytest.raises(Refused, match="failed to decode"):
        open_token("AAAA", "worker")


def test_without_a_controller_there_is_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAIROS_STAND_IN_ROOT", str(tmp_path))
    with pytest.raises(Refused, match="is the control plane initialized"):
        create_token(parse("token", ["create"]))


def test_two_sources_of_a_token_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = parse("worker", ["--token-file=/etc/k0s/token"])
    (root / "etc/k0s/token").write_text("a-token\n")
    assert token_text(options, Places.of(options)) == "a-token"
    monkeypatch.setenv("K0S_TOKEN", "another")
    with pytest.raises(Refused, match="one token source"):
        token_text(options, Places.of(options))


def test_a_node_tells_its_name_and_address_to_the_stand_in_behind() -> None:
    options = parse("worker", ["--kubelet-extra-args=--hostname-override=a --node-ip=10.1.0.7", "--labels=b=c"])
    assert inner_arguments(options) == [
        "--node-name=a",
        "--node-ip=10.1.0.7",
        "--node-label=b=c",
        "--kubelet-arg=healthz-port=10248",
    ]
