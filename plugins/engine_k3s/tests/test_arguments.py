from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kairos_engine_k3s.arguments import merge_arguments, parse_arguments, take_secrets
from kairos_engine_k3s.flags import ADDING, SECRET, SHORT, SWITCHES

from kairos_core import Argument
from kairos_core.testing.k3s.flags import FLAGS

ONE_PER_FAMILY = {"node-ip", "node-external-ip", "cluster-cidr", "service-cidr", "cluster-dns"}


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (["--debug"], "--debug"),
        (["--node-ip=10.0.0.1"], "--node-ip=10.0.0.1"),
        (["--node-ip 10.0.0.1"], "--node-ip=10.0.0.1"),
        (["--node-ip", "10.0.0.1"], "--node-ip=10.0.0.1"),
        (["-i 10.0.0.1", "-debug"], "--node-ip=10.0.0.1 --debug"),
        (["-v 3"], "-v=3"),
        (["--node-label 'a=b c'"], "--node-label=a=b c"),
        (["--disable-agent --token x"], "--disable-agent --token=x"),
        (["--cluster-init=false"], "--cluster-init=false"),
        (["--etcd-snapshot-schedule-cron='0 */6 * * *'"], "--etcd-snapshot-schedule-cron=0 */6 * * *"),
    ],
)
def test_arguments_are_read_in_every_form_that_k3s_takes(items: list[str], expected: str) -> None:
    assert " ".join(map(str, parse_arguments(items))) == expected


def test_a_flag_of_the_operator_replaces_ours_and_lists_add_up() -> None:
    ours = parse_arguments(["--node-ip=10.1.0.1", "--tls-san=a", "--flannel-iface=kairos0", "--cluster-init"])
    theirs = parse_arguments(["--tls-san=b", "--tls-san=a", "-i=192.168.0.1", "--cluster-init=false"])
    merged = [str(argument) for argument in merge_arguments(ours, theirs)]
    assert merged == [
        "--tls-san=a",
        "--flannel-iface=kairos0",
        "--tls-san=b",
        "--node-ip=192.168.0.1",
        "--cluster-init=false",
    ]


def test_secrets_move_to_the_environment() -> None:
    visible, secrets = take_secrets(parse_arguments(["-t one", "--datastore-endpoint=two", "--debug"]))
    assert visible == (Argument("debug"),)
    assert secrets == {"K3S_TOKEN": "one", "K3S_DATASTORE_ENDPOINT": "two"}


def test_our_tables_agree_with_k3s_command_line() -> None:
    flags = FLAGS["server"] | FLAGS["agent"]
    assert {name for name, flag in flags.items() if flag.kind == "switch"} == SWITCHES
    assert {name for name, flag in flags.items() if flag.kind == "list"} == ADDING | ONE_PER_FAMILY
    assert {flag.short: name for name, flag in flags.items() if flag.short} == dict(SHORT)
    assert {name: flags[name].variable for name in SECRET} == dict(SECRET)


@given(st.lists(st.text(max_size=30), max_size=6))
def test_any_text_is_read_or_refused_with_a_value_error(items: list[str]) -> None:
    try:
        arguments = parse_arguments(items)
    except ValueError:
        return
    merged = merge_arguments(parse_arguments(["--node-ip=1", "--tls-san=a"]), arguments)
    assert set(arguments) <= set(merged)
