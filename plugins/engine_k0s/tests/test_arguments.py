from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_engine_k0s.arguments import is_on, kubelet_value, merge_arguments, parse_arguments
from kairos_engine_k0s.flags import ADDING, SHORT, SWITCHES

from kairos_core.testing.k0s.flags import FLAGS


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["--debug"], "--debug"),
        (["--profile=small"], "--profile=small"),
        (["--profile small"], "--profile=small"),
        (["--profile", "small"], "--profile=small"),
        (["-c /a.yaml -d"], "--config=/a.yaml --debug"),
        (["-c/a.yaml"], "--config=/a.yaml"),
        (["-c=/a.yaml"], "--config=/a.yaml"),
        (["-x=1"], "-x=1"),
        (["--enable-worker=false"], "--enable-worker=false"),
        (["--kubelet-extra-args='--max-pods=50 --v=2'"], "--kubelet-extra-args=--max-pods=50 --v=2"),
        (["--kubelet-extra-args --max-pods=50"], "--kubelet-extra-args=--max-pods=50"),
        (["H4sI", "--debug"], "H4sI --debug"),
    ],
)
def test_arguments_are_read_in_every_form_that_k0s_takes(items: list[str], expected: str) -> None:
    assert " ".join(map(str, parse_arguments(items))) == expected


def test_a_flag_of_the_operator_replaces_ours_and_lists_add_up() -> None:
    ours = parse_arguments(["--enable-worker", "--labels=a=b", "--config=/etc/k0s/k0s.yaml"])
    theirs = parse_arguments(["--labels=c=d", "--labels=a=b", "--enable-worker=false"])
    merged = [str(argument) for argument in merge_arguments(ours, theirs)]
    assert merged == ["--labels=a=b", "--config=/etc/k0s/k0s.yaml", "--labels=c=d", "--enable-worker=false"]
    assert not is_on(merged, "enable-worker")


def test_the_kubelets_arguments_are_merged_within_their_flag() -> None:
    ours = parse_arguments(["--kubelet-extra-args='--hostname-override=edge-7 --node-ip=10.1.0.7'"])
    theirs = parse_arguments(["--kubelet-extra-args='--node-ip=192.168.1.7 --max-pods=50'"])
    (merged,) = map(str, merge_arguments(ours, theirs))
    assert merged == "--kubelet-extra-args=--hostname-override=edge-7 --node-ip=192.168.1.7 --max-pods=50"
    assert kubelet_value([merged], "node-ip") == "192.168.1.7"


def test_our_tables_agree_with_k0s_command_line() -> None:
    flags = FLAGS["controller"] | FLAGS["worker"]
    assert {name for name, flag in flags.items() if flag.kind == "switch"} == SWITCHES
    assert {name for name, flag in flags.items() if flag.kind == "list"} == ADDING
    assert {flag.short: name for name, flag in flags.items() if flag.short} == dict(SHORT)


@given(st.lists(st.text(max_size=30), max_size=6))
def test_any_text_is_read_or_refused_with_a_value_error(items: list[str]) -> None:
    try:
        arguments = parse_arguments(items)
    except ValueError:
        return
    merge_arguments(parse_arguments(["--profile=a", "--labels=a=b"]), arguments)
