"""The command line: a table of commands, plugins' commands, errors in one line, and a fast start."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from kairos_core.cli import kairos
from kairos_core.cli.outside import declared_commands, forget_commands, may_offer_commands
from kairos_core.cli.table import ALIASES, COMMANDS
from kairos_core.errors import ConfigError

COMMAND = """
    import click
    from kairos_core import hookimpl

    @click.command()
    def scan():
        "Scan the sky."
        click.echo("scanned")

    @hookimpl
    def register_commands(register):
        register({name!r}, lambda: scan)
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(kairos, arguments)


@pytest.fixture(autouse=True)
def fresh_plugins() -> Any:
    forget_commands()
    yield
    forget_commands()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_of_each_command_what_it_says_of_itself(name: str) -> None:
    module, _, attribute = COMMANDS[name].target.partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.get_short_help_str(200) == COMMANDS[name].help


def test_help_lists_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    listed = result.output.partition("Commands:")[2].split()
    assert set(COMMANDS) <= set(listed)


def test_help_imports_neither_the_commands_nor_what_they_need() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from kairos_core.cli import kairos\n"
        "assert CliRunner().invoke(kairos, ['--help']).exit_code == 0\n"
        "print(*sorted(sys.modules))"
    )
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    heavy = {"pydantic", "cryptography", "yaml", "zeroconf", "pyroute2", "starlette", "uvicorn", "asyncio"}
    assert not loaded & heavy
    assert not any(name.startswith(("kairos_core.runtime", "kairos_core.protocol", "kairos_net")) for name in loaded)


@pytest.mark.system
def test_help_takes_less_processor_time_than_a_blink() -> None:
    """Each press of TAB runs the command. Measured as processor time, the best of five: others may be busy."""
    took = []
    for _ in range(5):
        before = os.times()
        subprocess.run([sys.executable, "-m", "kairos_core.cli", "--help"], check=True, capture_output=True)
        after = os.times()
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(took) < 0.3


def test_the_module_runs_as_the_command_does() -> None:
    argv = [sys.executable, "-m", "kairos_core.cli", "--version"]
    assert subprocess.run(argv, check=True, capture_output=True, text=True).stdout.startswith("kairos, version ")


def test_an_error_is_one_line_on_stderr_and_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise ConfigError("p2p.role is 'king'. Set it to master or worker.")

    monkeypatch.setattr("kairos_core.cli.version.version", broken)
    result = run("version")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: p2p.role is 'king'. Set it to master or worker.\n"
    verbose = run("-v", "version")
    assert verbose.exit_code == 1
    assert verbose.stderr.startswith("Traceback")
    assert verbose.stderr.endswith("Error: p2p.role is 'king'. Set it to master or worker.\n")


def test_an_unknown_command_is_answered_with_the_nearest() -> None:
    result = run("generate-tokem")
    assert result.exit_code == 2
    assert "No such command 'generate-tokem'. Did you mean 'generate-token'?" in result.stderr


def test_the_short_names_of_the_reference_work_and_are_not_listed() -> None:
    assert ALIASES == {"g": "generate-token", "c": "create-config"}
    assert run("c").output.startswith("#cloud-config")
    assert "  c " not in run("--help").output


def test_completion_offers_commands_with_their_help() -> None:
    completions = ShellComplete(kairos, {}, "kairos", "_KAIROS_COMPLETE").get_completions([], "ge")
    assert [(item.value, item.help) for item in completions] == [
        ("generate-token", COMMANDS["generate-token"].help),
        ("get-kubeconfig", COMMANDS["get-kubeconfig"].help),
    ]


def test_a_plugins_command_is_listed_completed_and_run(install: Any) -> None:
    install("acme-scan", COMMAND.format(name="scan"))
    assert run("scan").output == "scanned\n"
    assert "Commands of plugins:\n  scan  Scan the sky." in run("--help").output
    completions = ShellComplete(kairos, {}, "kairos", "_KAIROS_COMPLETE").get_completions([], "sc")
    assert [item.value for item in completions] == ["schema", "scan"]


def test_a_plugin_cannot_take_a_built_in_command(install: Any) -> None:
    install("acme-scan", COMMAND.format(name="version"))
    assert "scanned" not in run("version").output
    assert "version" not in run("--help").output.partition("Commands of plugins")[2]
    (row,) = [line for line in run("plugins", "list").output.splitlines() if "acme-scan" in line]
    assert "a built-in command has this name" in row


def test_a_broken_plugin_command_does_not_spoil_help(install: Any) -> None:
    install("acme-bad", "import no_such_library  # register_commands")
    install("acme-worse", COMMAND.format(name="scan").replace("lambda: scan", "lambda: 1 / 0"))
    result = run("--help")
    assert result.exit_code == 0
    assert "version" in result.stdout
    assert "Warning: the command 'scan' cannot be made: ZeroDivisionError" in result.stderr
    assert run("scan").exit_code == 1


def test_a_plugin_that_declares_its_commands_is_not_imported_for_help(install: Any) -> None:
    source = 'COMMANDS = {"scan": "Scan the sky.", "version": "Not ours."}\n' + dedent(COMMAND.format(name="scan"))
    (point,) = install("acme-scan", source)
    assert declared_commands(point) == {"scan": "Scan the sky."}
    install("acme-lazy", 'COMMANDS = {"look": "Look up."}\nraise SystemExit("imported")  # register_commands')
    result = run("--help")
    assert "  look  Look up.\n  scan  Scan the sky." in result.output
    assert run("scan").output == "scanned\n"


@pytest.mark.parametrize("said", ["COMMANDS = names()", "COMMANDS = {1: 2}", "COMMANDS = 5", "COMMANDS = {", "x = 1"])
def test_what_is_no_declaration_is_none(install: Any, said: str) -> None:
    (point,) = install("acme-x", f"{said}\n# register_commands")
    assert declared_commands(point) is None


@pytest.mark.parametrize(
    ("source", "value", "expected"),
    [
        ("x = 1", "", False),
        ("def register_commands(): pass", "", True),
        ("from elsewhere import *", "", True),
        ("x = 1", "acme_x:plugin", True),
        ("x = 1", "acme_gone", True),
    ],
)
def test_a_plugin_is_imported_for_its_commands_only_if_it_can_have_any(
    install: Any, source: str, value: str, expected: bool
) -> None:
    (point,) = install("acme-x", source, value=value)
    assert may_offer_commands(point) is expected


def test_looking_for_commands_does_not_even_import_the_package_around_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "acme_nested"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "plugin.py").write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert may_offer_commands(EntryPoint("nested", "acme_nested.plugin", "kairos.plugins")) is False
