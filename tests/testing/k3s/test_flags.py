from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kairos_core.testing.k3s.flags import FLAGS, Options, UsageError


@pytest.mark.parametrize("argv", [["--node-ip=1.2.3.4"], ["-i", "1.2.3.4"], ["-node-ip", "1.2.3.4"]])
def test_a_value_is_read_in_every_form(argv: list[str]) -> None:
    assert Options("server", argv, {}).values("node-ip") == ["1.2.3.4"]


@pytest.mark.parametrize(
    ("command", "argv", "message"),
    [
        ("server", ["--foo"], "flag provided but not defined: -foo"),
        ("agent", ["--cluster-init"], "flag provided but not defined: -cluster-init"),
        ("agent", ["--tls-san=a"], "flag provided but not defined: -tls-san"),
        ("server", ["--node-ip"], "flag needs an argument: -node-ip"),
        ("server", ["--cluster-init=maybe"], 'invalid boolean value "maybe" for -cluster-init: parse error'),
        ("server", ["--https-listen-port=x"], 'invalid value "x" for flag -https-listen-port: parse error'),
    ],
)
def test_what_k3s_refuses_is_refused_in_its_words(command: str, argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Options(command, argv, {})
    assert str(caught.value) == message


def test_the_command_line_wins_over_the_environment() -> None:
    environment = {"K3S_TOKEN": "from-environment", "K3S_URL": "https://a:6443"}
    options = Options("agent", ["--token=from-argv"], environment)
    assert (options.value("token"), options.value("server")) == ("from-argv", "https://a:6443")


def test_lists_add_up_and_split_at_commas() -> None:
    options = Options("server", ["--tls-san=a,b", "--tls-san", "c"], {})
    assert options.values("tls-san") == ["a", "b", "c"]


def test_a_component_flag_gives_its_last_value() -> None:
    options = Options("agent", ["--kubelet-arg=healthz-port=1", "--kubelet-arg=healthz-port=2"], {})
    assert options.component("kubelet-arg", "healthz-port", "10248") == "2"
    assert options.component("kubelet-arg", "max-pods", "110") == "110"


@given(st.sampled_from(sorted(FLAGS)), st.lists(st.text(max_size=20), max_size=6))
def test_any_command_line_is_read_or_refused(command: str, argv: list[str]) -> None:
    with contextlib.suppress(UsageError):
        Options(command, argv, {})
