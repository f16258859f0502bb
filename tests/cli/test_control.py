"""The commands against a real server: what they print, and how they fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from kairos_core.cli import control, kairos, status
from kairos_core.cli.columns import format_columns, printable
from kairos_core.cli.leave import join, leave
from kairos_core.errors import ControlError
from kairos_core.model import Finding, Role, Verdict
from kairos_core.protocol.identity import Identity
from kairos_core.runtime.state import StateDirectory
from kairos_core.testing.control import fake_machine
from kairos_core.testing.served import ServedNode, served_node

TWO = str(fake_machine(2).peer)
KUBECONFIG = "apiVersion: v1\nkind: Config\n"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[ServedNode]:
    with served_node(tmp_path) as node:
        yield node


def _run(agent: ServedNode, command: click.Command, *arguments: str) -> Result:
    result = CliRunner().invoke(command, [*arguments, "--api", agent.unix])
    assert result.exception is None, result.output + repr(result.exception)
    return result


def _fail(agent: ServedNode, command: click.Command, *arguments: str) -> str:
    """Return the sentence of a failure: the group prints it after "Error: " and exits with 1."""
    result = CliRunner().invoke(command, [*arguments, "--api", agent.unix])
    assert isinstance(result.exception, ControlError), result.output
    assert result.exit_code == 1
    assert result.stdout == ""
    return str(result.exception)


def test_status_shows_phase_guarantee_machines_drops_and_warnings(agent: ServedNode) -> None:
    agent.control.change(warnings=("the clock is off by 90 s",))
    lines = _run(agent, control.status).stdout.splitlines()
    assert lines[0].startswith("node        node-1 (12D3KooW")
    for line in (
        "phase       ready",
        "guarantee   at most one cluster: 2 of 3 votes decide",
        "milestones  discovered after 1.5 s",
        "dropped     unknown_key 4",
        "warning     the clock is off by 90 s",
    ):
        assert line in lines
    assert lines[-4].split() == ["NODE", "PEER", "ROLE", "ADDRESS", "ENGINE", "ALIVE", "MESSAGE"]
    assert lines[-3].split()[:2] == ["node-1", "*"]
    assert lines[-2].split() == ["node-2", TWO[-8:], "worker", "10.1.0.2", "ready", "yes", "-"]
    assert lines[-1].split()[-2:] == ["no", "-"]


def test_status_as_json_is_the_whole_status(agent: ServedNode) -> None:
    document = json.loads(_run(agent, control.status, "--json").stdout)
    assert document == agent.get("/api/v1/status")
    assert document["machines"][1]["peer"] == TWO


def test_words_of_a_peer_cannot_steer_the_terminal(agent: ServedNode) -> None:
    agent.control.change(machines=(fake_machine(2, name="\x1b[2Jevil\r\u202e"),))
    output = _run(agent, control.status).stdout
    assert "\\x1b[2Jevil\\r\\u202e" in output
    assert "\x1b" not in output


def test_status_watch_prints_again_when_something_changed_until_ctrl_c(
    agent: ServedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = iter(["ready", "failed"])

    def sleep(_seconds: float) -> None:
        phase = next(phases, None)
        if phase is None:
            raise KeyboardInterrupt
        agent.control.change(phase=phase)

    monkeypatch.setattr("kairos_core.cli.status.time.sleep", sleep)
    lines = _run(agent, control.status, "--watch", "--json").stdout.splitlines()
    assert [json.loads(line)["phase"] for line in lines] == ["ready", "failed"]


def test_the_kubeconfig_is_printed_as_it_is(agent: ServedNode) -> None:
    agent.control.config = KUBECONFIG
    assert _run(agent, control.get_kubeconfig).stdout == KUBECONFIG
    assert _run(agent, control.get_kubeconfig, "--network-id", "kairos").stdout == KUBECONFIG


def test_without_a_kubeconfig_the_command_fails_with_the_reason(agent: ServedNode) -> None:
    assert "no master is ready yet" in _fail(agent, control.get_kubeconfig)


def test_a_failure_is_one_line_on_stderr_and_exit_code_1(agent: ServedNode) -> None:
    for command in (["get-kubeconfig"], ["ledger", "get", "none"], ["role", "set", "x", "worker"]):
        result = CliRunner().invoke(kairos, [*command, "--api", agent.unix])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1


def test_the_kubeconfig_of_another_network_is_not_printed(agent: ServedNode) -> None:
    agent.control.config = KUBECONFIG
    assert "in network 'kairos', not 'other'" in _fail(agent, control.get_kubeconfig, "--network-id", "other")


def test_roles_are_listed_without_operators(agent: ServedNode) -> None:
    rows = json.loads(_run(agent, control.role, "list", "--json").stdout)
    assert [(row["name"], row["role"]) for row in rows] == [
        ("node-1", "master"),
        ("node-2", "worker"),
        ("node-3", None),
    ]
    table = _run(agent, control.role, "list").stdout.splitlines()
    assert table[2].split() == ["node-2", TWO, "worker", "10.1.0.2", "yes"]


def test_a_role_is_set_by_name(agent: ServedNode) -> None:
    assert _run(agent, control.role, "set", "node-2", "master").stdout == f"{TWO} is to be master.\n"
    assert list(agent.control.roles.values()) == [Role.MASTER]
    _run(agent, control.role, "set", TWO[-8:], "auto")
    assert list(agent.control.roles.values()) == [None]


def test_a_role_for_nobody_or_for_two_fails(agent: ServedNode) -> None:
    assert "no node is called 'x'" in _fail(agent, control.role, "set", "x", "worker")
    agent.control.change(machines=(fake_machine(1, name="twin"), fake_machine(2, name="twin")))
    assert "names 2 nodes" in _fail(agent, control.role, "set", "twin", "worker")


def test_a_role_that_does_not_exist_is_a_usage_error(agent: ServedNode) -> None:
    result = CliRunner().invoke(control.role, ["set", "node-2", "king"])
    assert result.exit_code == 2
    assert "master/clusterinit" in result.stderr


def test_uuid_is_the_peer_id_of_the_agent(agent: ServedNode) -> None:
    assert _run(agent, control.uuid).stdout.strip() == str(agent.control.node.me.peer)
    assert json.loads(_run(agent, control.uuid, "--json").stdout) == {"peer": str(agent.control.node.me.peer)}


def test_uuid_is_read_from_the_state_directory_where_no_agent_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "identity").write_bytes(bytes(range(32)))
    expected = str(Identity(bytes(range(32))).peer_id)
    assert CliRunner().invoke(control.uuid, ["--state", str(tmp_path)]).stdout.strip() == expected
    monkeypatch.setattr(status, "STATE_DIRECTORY", tmp_path)
    monkeypatch.setenv("KAIROS_API", f"unix://{tmp_path}/none.sock")
    assert CliRunner().invoke(control.uuid, []).stdout.strip() == expected


def test_uuid_fails_where_there_is_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "STATE_DIRECTORY", tmp_path)
    monkeypatch.setenv("KAIROS_API", f"unix://{tmp_path}/none.sock")
    assert "no agent answers" in str(CliRunner().invoke(control.uuid, []).exception)
    missing = CliRunner().invoke(control.uuid, ["--state", str(tmp_path)]).exception
    assert "cannot read the identity" in str(missing)
    (tmp_path / "identity").write_bytes(b"short")
    broken = CliRunner().invoke(control.uuid, []).exception
    assert "has 5 bytes, expected 32" in str(broken)
    assert "short" not in str(broken)


def test_an_entry_is_set_read_and_deleted(agent: ServedNode) -> None:
    for text, value in (
        ('{"a": 1}', {"a": 1}),
        ("plain words", "plain words"),
        ("NaN", "NaN"),
        ("-1.5", -1.5),
        ("7", 7),
        ('"7"', "7"),
    ):
        _run(agent, control.ledger, "set", "b", "k", text)
        assert agent.control.buckets["b"] == {"k": value}
        assert json.loads(_run(agent, control.ledger, "get", "b", "k", "--json").stdout) == value
    assert _run(agent, control.ledger, "get", "b", "k").stdout == "7\n"
    _run(agent, control.ledger, "delete", "b", "k")
    assert "has no entry 'k'" in _fail(agent, control.ledger, "get", "b", "k")


def test_the_ledger_is_shown_whole_or_by_bucket(agent: ServedNode) -> None:
    agent.control.buckets["z"] = {"k": [1]}
    assert _run(agent, control.ledger, "get").stdout.splitlines()[2].split() == ["z", "k", "[1]"]
    assert _run(agent, control.ledger, "get", "role").stdout.splitlines()[1].split() == ["role", "node-2", "worker"]
    assert json.loads(_run(agent, control.ledger, "get", "--json").stdout) == agent.control.buckets
    assert "no bucket 'none'" in _fail(agent, control.ledger, "get", "none")


def test_a_refused_write_fails(agent: ServedNode) -> None:
    agent.control.refusal = ControlError("only its author writes here.")
    assert _fail(agent, control.ledger, "set", "b", "k", "1") == "only its author writes here."
    assert "means a delete" in _fail(agent, control.ledger, "set", "b", "k", "null")


def test_watch_prints_each_change_until_ctrl_c(agent: ServedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    from kairos_core.api.client import ApiClient

    def changes(_self: Any, bucket: str | None = None) -> Any:
        yield {"bucket": "b", "key": "k", "value": {"a": "\x1b"}}
        yield {"bucket": "b", "key": "k", "value": None}
        raise KeyboardInterrupt

    monkeypatch.setattr(ApiClient, "changes", changes)
    assert _run(agent, control.ledger, "watch").stdout == 'b/k = {"a": "\\u001b"}\nb/k deleted\n'
    lines = _run(agent, control.ledger, "watch", "--json").stdout.splitlines()
    assert [json.loads(line)["value"] for line in lines] == [{"a": "\x1b"}, None]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert (
        format_columns(("A", "LONG"), [("wide cell", ""), (1, None)]) == "A          LONG\nwide cell  -\n1          -"
    )


def test_control_characters_are_shown_and_letters_kept() -> None:
    assert printable("é\t\x9b中") == "é\\t\\x9b中"


def test_the_doctor_prints_what_mends_and_fails_if_something_is_wrong(agent: ServedNode) -> None:
    well = _run(agent, control.doctor)
    assert well.stdout == "ok     clock: the clock is right\n"
    agent.control.findings = (Finding("one cluster", Verdict.WRONG, "two", "kairos cluster adopt k-2"),)
    ill = CliRunner().invoke(control.doctor, ["--api", agent.unix])
    assert ill.exit_code == 1
    assert ill.stdout.splitlines() == ["WRONG  one cluster: two", "       -> kairos cluster adopt k-2"]
    as_json = CliRunner().invoke(control.doctor, ["--json", "--api", agent.unix])
    assert (as_json.exit_code, json.loads(as_json.stdout)[0]["verdict"]) == (1, "wrong")


def test_a_new_generation_says_what_it_does_and_asks_first(agent: ServedNode) -> None:
    arguments = ["new-generation", "--api", agent.unix]
    no = CliRunner().invoke(control.cluster, arguments, input="n\n")
    assert isinstance(no.exception, ControlError)
    assert "untouched" in no.stderr
    assert "c1" in no.stderr
    assert agent.control.node.generation == 1
    yes = CliRunner().invoke(control.cluster, arguments, input="y\n")
    assert yes.stdout.startswith("Generation 2 begins.")
    agent.control.refusal = ControlError("the cluster lives")
    assert "lives" in _fail(agent, control.cluster, "new-generation", "--yes")
    assert json.loads(_run(agent, control.cluster, "new-generation", "--yes", "--force", "--json").stdout) == {
        "generation": 3
    }
    assert "c1 (generation 3)" in _run(agent, control.status).stdout


def test_a_machine_adopts_a_cluster(agent: ServedNode) -> None:
    assert "joins k-2" in _run(agent, control.cluster, "adopt", "k-2").stdout
    assert agent.control.adopted == ["k-2"]


def _ends_when_it_has_left(agent: ServedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    right = agent.control.leave

    async def end(*, at_once: bool) -> None:
        await right(at_once=at_once)
        asyncio.get_running_loop().call_later(0.3, agent.stop.set)

    monkeypatch.setattr(agent.control, "leave", end)


def test_a_machine_has_left_when_its_agent_has_ended(agent: ServedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    _ends_when_it_has_left(agent, monkeypatch)
    result = _run(agent, leave)
    assert "This machine has left." in result.stdout
    assert agent.control.left == [False]


def test_a_machine_is_made_to_leave(agent: ServedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    _ends_when_it_has_left(agent, monkeypatch)
    assert json.loads(_run(agent, leave, "--force", "--json").stdout)["peer"].startswith("12D3KooW")
    assert agent.control.left == [True]


def test_a_machine_that_must_not_leave_says_why(agent: ServedNode) -> None:
    agent.control.refusal = ControlError("this is the only master")
    assert "only master" in _fail(agent, leave)


def test_leaving_tells_what_it_waits_for_and_gives_up_only_the_waiting(
    agent: ServedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def begin(*, at_once: bool) -> None:
        me = replace(agent.control.node.me, message="leaving: the drain is blocked")
        agent.control.change(phase="leaving", me=me)

    monkeypatch.setattr(agent.control, "leave", begin)
    result = CliRunner().invoke(leave, ["--timeout", "0.5", "--api", agent.unix])
    assert isinstance(result.exception, ControlError)
    assert "not out yet: leaving: the drain is blocked" in str(result.exception)
    assert result.stderr.count("the drain is blocked") == 1


def test_a_machine_that_has_left_joins_again_and_one_that_has_not_is_told(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.forget()
    state.release()
    assert "takes part again" in CliRunner().invoke(join, ["--state", str(tmp_path)]).stdout
    again = CliRunner().invoke(join, ["--state", str(tmp_path)])
    assert "has not left" in str(again.exception)
