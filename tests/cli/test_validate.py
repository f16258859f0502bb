"""`kairos validate` and `kairos schema`, with the plugins that are installed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kairos_core.cli.validate import schema, validate
from kairos_core.protocol.token import format_token, new_token

TOKEN = format_token(new_token(lambda alphabet: alphabet[0]))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(validate, arguments)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A right file with one old spelling in it."""
    file = tmp_path / "good.yaml"
    file.write_text(f"#cloud-config\np2p:\n  network_token: {TOKEN}\n  ha: {{master_nodes: 2}}\n")
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A file with two faults."""
    file = tmp_path / "bad.yaml"
    file.write_text("p2p:\n  peer: 1\n  minimum_nodes: x\n")
    return file


def test_a_right_file_is_valid_and_its_warnings_go_to_standard_error(good: Path) -> None:
    result = run(str(good))
    assert (result.exit_code, result.stdout) == (0, "valid\n")
    assert result.stderr == f"Warning: {good}, line 4: p2p.ha is an old spelling; write p2p.auto.ha.\n"


def test_each_fault_is_one_line_on_standard_error_and_the_exit_code_is_1(good: Path, bad: Path) -> None:
    result = run(str(good), str(bad))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {bad}, line 2: p2p.peer is an unknown key; did you mean peers?\n"
        f"Error: {bad}, line 3: p2p.minimum_nodes: 'x' is text, expected a whole number.\n"
    )


def test_a_directory_stands_for_its_files(good: Path) -> None:
    assert run(str(good.parent)).stdout == "valid\n"


def test_json_says_the_same(good: Path, bad: Path) -> None:
    right, wrong = run("--json", str(good)), run("--json", str(good), str(bad))
    assert (right.exit_code, wrong.exit_code) == (0, 1)
    assert json.loads(right.stdout)["valid"] is True
    assert len(json.loads(right.stdout)["warnings"]) == 1
    found = json.loads(wrong.stdout)
    assert (found["valid"], found["files"], len(found["errors"])) == (False, [str(good), str(bad)], 2)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    result = run(str(tmp_path / "missing.yaml"))
    assert result.exit_code == 1
    assert "cannot be read: No such file or directory" in result.stderr


def test_the_schema_is_printed_as_json_with_the_sections_of_installed_plugins() -> None:
    from kairos_core.runtime.plugins import load_plugins

    result = CliRunner().invoke(schema)
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    for section in load_plugins().sections():
        node = printed
        for key in section.split("."):
            node = node["properties"][key]
