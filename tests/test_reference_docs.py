"""The reference pages name each route, error code, metric, command and option."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

import kairos_core.api
from kairos_core.api.app import OPERATIONS
from kairos_core.api.metrics import NodeCollector
from kairos_core.api.operation import Operation
from kairos_core.cli import kairos
from kairos_core.cli.table import COMMANDS
from kairos_core.runtime.control import Traffic
from kairos_core.testing.control import FakeControl

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
API = (REFERENCE / "api.md").read_text()
CLI = (REFERENCE / "cli.md").read_text()


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(kairos)
    for name, builtin in COMMANDS.items():
        if find_spec(builtin.target.partition(":")[0]) is None:
            continue  # a command of the table that is not there is a fault of the table: see its own test
        command = kairos.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", each) for sub, each in command.commands.items())


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
def test_each_route_is_in_the_api_reference(operation: Operation) -> None:
    assert f"| `{operation.method} {operation.path}` |" in API


def test_the_api_reference_names_no_route_that_is_not_there() -> None:
    named = set(re.findall(r"\| `([A-Z]+ /[^`]*)` \|", API))
    assert named == {f"{operation.method} {operation.path}" for operation in OPERATIONS}


def test_each_error_code_is_in_the_api_reference() -> None:
    sources = Path(next(iter(kairos_core.api.__path__))).glob("*.py")
    found = {code for each in sources for code in re.findall(r'Refusal\(\s*\d+, "(\w+)"', each.read_text())}
    assert len(found) > 10
    assert {code for code in found if f"`{code}`" not in API} == set()


def test_each_metric_is_in_the_api_reference() -> None:
    control = FakeControl()
    control.carried = Traffic(1, 1, 1, 1)
    names = {sample.name for family in NodeCollector(control).collect() for sample in family.samples}
    assert {name for name in names if f"`{name}`" not in API} == set()


def test_each_command_is_in_the_command_reference() -> None:
    assert [name for name in COMMANDS if f"`kairos {name}" not in CLI] == []


def test_each_subcommand_and_option_is_in_the_paragraph_of_its_command() -> None:
    missing = []
    for name, command in _commands():
        paragraphs = [each for each in re.split(r"\n(?=- )|\n\n", CLI) if f"`kairos {name}" in each]
        if not paragraphs:
            missing.append(name)
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                if not any(re.search(rf"`{option}\b", each) for each in paragraphs):
                    missing.append(f"{name} {option}")
    assert missing == []
