"""How engines write down what they would run for each plan, and what is held against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from kairos_core.errors import EngineError
from kairos_core.model import Join, Role
from kairos_core.service.definition import File
from kairos_core.settings import SecretStr
from kairos_core.testing.plans import check_hidden, described, plans_of_master, plans_of_worker, table

JOIN = Join("https://10.1.0.2:6443", SecretStr("join-token"))
DATASTORE = SecretStr("postgres://db")


@dataclass(frozen=True)
class Launch:
    """What a fake would run."""

    service: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, SecretStr] = field(default_factory=dict)
    manifests: tuple[File, ...] = ()


def launch_of(name: str, number: int) -> Launch:
    if number < 0:
        raise EngineError("no number")
    return Launch(name, ("run", str(number)), {"TOKEN": SecretStr("t")}, (File("/vip.yaml", "kind: Pod"),))


def test_a_table_has_each_case_with_what_runs_or_why_nothing_does() -> None:
    written = table({"one": ("a", 1), "two": ("b", -1)}, launch_of, described)
    assert written == "one\n    a: run 1\n    TOKEN=t\n    /vip.yaml 600\n\ntwo\n    refused: no number\n"


def test_an_engine_has_lines_of_its_own() -> None:
    assert described(Launch("a"), "x", "y") == "    a: \n    x\n    y"


def test_a_setting_is_tried_where_it_is_meant_to_work_and_where_not() -> None:
    of_master = dict(plans_of_master("k3s args", JOIN, DATASTORE))
    assert {name: plan.role for name, plan in of_master.items()} == {
        "master/ha vpn k3s args": Role.HA,
        "master vpn external_db k3s args": Role.MASTER,
        "worker vpn k3s args": Role.WORKER,
    }
    assert of_master["master vpn external_db k3s args"].datastore == DATASTORE
    of_worker = dict(plans_of_worker("k3s-agent args", JOIN))
    assert [plan.role for plan in of_worker.values()] == [Role.WORKER, Role.MASTER]


def test_a_secret_in_the_arguments_or_in_the_repr_is_found() -> None:
    check_hidden(Launch("a", ("run",), {"TOKEN": SecretStr("hush")}), ["hush"])
    for shown in (Launch("a", ("--token=hush",)), Launch("a", manifests=(File("hush", ""),))):
        with pytest.raises(AssertionError, match="must show no secret"):
            check_hidden(shown, ["hush"])
