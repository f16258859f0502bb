from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.testing.k0s.flags import FLAGS, Options, UsageError, parse
from kairos_core.testing.k0s.places import Places, Refused, read_config


@pytest.mark.parametrize("argv", [["--config=/a"], ["--config", "/a"], ["-c", "/a"], ["-c/a"], ["-c=/a"]])
def test_a_value_is_read_in_every_form(argv: list[str]) -> None:
    assert parse("controller", argv).value("config") == "/a"


@pytest.mark.parametrize(
    ("command", "argv", "message"),
    [
        ("controller", ["--foo"], "unknown flag: --foo"),
        ("worker", ["--enable-worker"], "unknown flag: --enable-worker"),
        ("worker", ["--config=/a"], "unknown flag: --config"),
        ("token", ["create", "--token-file=a"], "unknown flag: --token-file"),
        ("worker", ["-x"], "unknown shorthand flag: 'x' in -x"),
        ("controller", ["--config"], "flag needs an argument: --config"),
        (
            "controller",
            ["--enable-worker=maybe"],
            'invalid argument "maybe" for "--enable-worker" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
    ],
)
def test_what_k0s_refuses_is_refused_in_its_words(command: str, argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(command, argv)
    assert str(caught.value) == message


def test_words_may_stand_between_flags_and_lists_add_up() -> None:
    options = parse("worker", ["--labels=a=b,c=d", "a-token", "--labels", "e=f"])
    assert (options.words, options.given["labels"]) == (["a-token"], ["a=b", "c=d", "e=f"])


def test_the_kubelets_flags_give_their_last_value() -> None:
    options = parse("worker", ["--kubelet-extra-args=--node-ip=1.2.3.4 --v=2 --v=3"])
    assert (options.kubelet("v"), options.kubelet("node-ip"), options.kubelet("port", "1")) == ("3", "1.2.3.4", "1")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("spec: {api: {adress: 10.0.0.1}}", 'unknown field "adress"'),
        ("spec: {storage: {type: sqlite}}", 'Unsupported value: "sqlite"'),
        ("kind: Cluster", "unknown kind Cluster"),
        (
            "spec: {api: {externalAddress: a}, network: {nodeLocalLoadBalancing: {enabled: true}}}",
            "cannot be used with externalAddress",
        ),
    ],
)
def test_a_k0s_yaml_that_k0s_would_refuse_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "k0s.yaml"
    file.write_text(text)
    options = Options(given={"config": [str(file)]})
    with pytest.raises(Refused, match=reason):
        read_config(Places(tmp_path, tmp_path), options)


@given(st.sampled_from(sorted(FLAGS)), st.lists(st.text(max_size=20), max_size=6))
def test_any_command_line_is_read_or_refused(command: str, argv: list[str]) -> None:
    with contextlib.suppress(UsageError):
        parse(command, argv)
