"""The checks for engines with processes, held to fake ones: what is right passes, and each fault is found."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kairos_core.model import EngineState, EngineStatus, Role
from kairos_core.settings import SecretStr
from kairos_core.testing.machines import (
    EngineMachine,
    begun,
    check_adoption,
    check_cluster,
    check_kubeconfig,
    check_removal,
    check_revival,
    check_secrets,
    check_unknown_flag,
    formed,
    free_port,
    in_directories,
    joined,
    machines,
    reached,
)

OWN = "etc/fake.conf"  # a file that the fake engine writes where there is none
SECRET = "my-own-secret"

Make = Callable[..., Any]  # a Machine of conftest.py


async def test_what_is_right_passes(make: Make) -> None:
    first, second = await check_cluster(make)
    assert first.join_token == second.join_token
    await check_adoption(make("adopts"))
    await check_revival(make("revives"))
    await check_kubeconfig(make("writes"))
    await check_unknown_flag(make("says"), "unknown flag")
    await check_removal(make("goes"), {OWN: "theirs"}, meanwhile={"etc/other": "b"}, left=[])
    await check_removal(make("goes too"), {}, meanwhile={}, left=[])


async def test_a_cluster_that_does_not_see_its_nodes_is_found(make: Make) -> None:
    with pytest.raises(AssertionError, match=r"knows .'first',., not"):
        await check_cluster(lambda name: make(name, "sees itself alone"))


@pytest.mark.parametrize(
    ("fault", "what"),
    [("restarts what runs", "must not restart"), ("another cluster each time", "must not start another cluster")],
)
async def test_an_agent_that_does_not_adopt_what_runs_is_found(make: Make, fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        await check_adoption(make("a", fault))


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("tells no death", "the engine is ready, not failed"),
        ("stays dead", "the engine is failed, not ready: it has ended"),
        ("never died", "must be another process"),
        ("another cluster each time", "as the same cluster"),
    ],
)
async def test_a_death_that_is_not_told_or_not_mended_is_found(make: Make, fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        await check_revival(make("a", fault))


@pytest.mark.parametrize(
    ("fault", "what"),
    [("names itself", "must name https://localhost:6443"), ("needs a file", "must need no other file")],
)
async def test_a_kubeconfig_that_others_cannot_use_is_found(make: Make, fault: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        await check_kubeconfig(make("a", fault))


async def test_a_failure_that_hides_what_the_program_said_is_found(make: Make) -> None:
    with pytest.raises(AssertionError, match="in the words of the program: it has ended"):
        await check_unknown_flag(make("a", "says nothing"), "unknown flag")


@pytest.mark.parametrize("fault", ["leaves a file", "takes what is not its own"])
async def test_a_removal_of_too_little_or_too_much_is_found(make: Make, fault: str) -> None:
    before = {OWN: "theirs"} if fault.startswith("takes") else {}
    with pytest.raises(AssertionError, match="must leave what it did not make, and nothing else"):
        await check_removal(make("a", fault), before, meanwhile={}, left=[])


async def test_a_removal_that_spoils_a_file_or_lets_the_process_run_is_found(make: Make) -> None:
    with pytest.raises(AssertionError, match=f"{OWN} must be as it was"):
        await check_removal(make("a", "spoils what is not its own"), {OWN: "theirs"}, meanwhile={}, left=[])
    runs_on = make("b")
    runs_on.process.pid = os.getpid()
    with pytest.raises(AssertionError, match="nothing must run"):
        await check_removal(runs_on, {}, meanwhile={}, left=[])


async def test_a_cluster_is_formed_of_those_who_join_the_first(make: Make) -> None:
    trio, engines, join = await formed(make)
    assert [machine.name for machine in trio] == ["first", "second", "worker"]
    assert (await engines[0].status()).nodes == ("first", "second", "worker")
    assert [engine.plan.join for engine in engines] == [None, join, join]


async def test_who_begins_and_who_joins_is_ready_with_the_arguments_that_it_was_given(make: Make) -> None:
    first, other = make("first"), make("other")
    engine, join = await begun(first, "--a", role=Role.MASTER)
    joining = await joined(other, Role.WORKER, join, "--b")
    assert (engine.arguments, engine.plan.role) == (("--a",), Role.MASTER)
    assert (joining.arguments, joining.plan.role, joining.plan.join) == (("--b",), Role.WORKER, join)
    assert (await joining.status()).state is EngineState.READY


def test_machines_have_directories_and_addresses_of_their_own(make: Make, tmp_path: Path) -> None:
    installed = []
    add = in_directories(tmp_path, type(make("a")), lambda directory, root: installed.append((directory, root)))
    one, two = add("one"), add("two")
    assert (one.root, two.root) == (tmp_path / "one", tmp_path / "two")
    assert (one.address, two.address) == ("127.0.0.1", "127.0.0.2")
    assert installed == [(each.root / "usr/local/bin", each.root) for each in (one, two)]


async def test_what_runs_is_removed_from_every_machine_at_the_end(make: Make) -> None:
    async with machines(make) as add:
        made = [add("one"), add("two")]
        await made[0].engine().apply(made[0].plan(Role.MASTER))
        assert [each.process.removals for each in made] == [0, 0]
    assert [each.process.removals for each in made] == [1, 1]


async def test_a_state_that_does_not_come_is_told_with_the_one_that_there_is(make: Make) -> None:
    with pytest.raises(AssertionError, match="the engine is absent, not ready"):
        await reached(make("a").engine(), EngineState.READY)


@pytest.fixture
def with_files(make: Make) -> Any:
    """A machine whose service is this process, with a key and a token in files."""
    machine = make("a")
    files = {"run/kairos/fake.pid": f"{os.getpid()} ()", "key": "PRIVATE KEY", "env": f"a {SECRET} c"}
    machine.write(files)
    for name in files:
        (machine.root / name).chmod(0o600)
    machine.process.pid = os.getpid()
    return machine


def test_files_with_secrets_are_found_and_must_be_for_their_owner_alone(with_files: Any) -> None:
    assert check_secrets(with_files, SECRET) == {"key", "env"}
    (with_files.root / "env").chmod(0o640)
    with pytest.raises(AssertionError, match=r"env holds a secret, and has the mode 0640"):
        check_secrets(with_files, SECRET)


def test_a_secret_among_the_arguments_is_found(with_files: Any) -> None:
    with pytest.raises(AssertionError, match="arguments must hold no secret"):
        check_secrets(with_files, Path("/proc/self/cmdline").read_text().partition("\0")[0])


def test_a_service_is_known_by_its_pid_file_and_how_others_join_by_its_status(make: Make) -> None:
    machine = make("a")
    machine.write({"run/kairos/fake.pid": f"{os.getpid()} (python) S", "run/kairos/other.pid": "1 (init) S"})
    assert EngineMachine.pid(machine) == os.getpid()
    assert EngineMachine.pid(machine, "other") == 1
    token = SecretStr("t")
    assert machine.join(EngineStatus(EngineState.READY, join_token=token)).token is token
    assert machine.join(EngineStatus(EngineState.READY, join_token=token)).server.endswith(f":{machine.port}")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_free_port_can_be_taken(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", free_port(kind)))
