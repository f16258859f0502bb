"""`kairos plugins list` shows what is installed and used; `kairos plugins new` begins a plugin that works."""

from __future__ import annotations

import compileall
import inspect
import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kairos_core.cli import kairos
from kairos_core.cli.plugins import KINDS
from kairos_core.cli.scaffold import PATTERNS
from kairos_core.protocol.token import format_token, new_token
from kairos_core.runtime.offers import Kind
from kairos_core.runtime.plugins import load_plugins

TRANSPORT = """
    from kairos_core import hookimpl

    @hookimpl
    def register_transport(register):
        register("pigeon", int)
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(kairos, arguments)


def rows(*arguments: str) -> dict[str, dict[str, Any]]:
    result = run("plugins", "list", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return {row["name"]: row for row in json.loads(result.stdout)}


def config(directory: Path, block: str) -> str:
    file = directory / "config.yaml"
    token = format_token(new_token(lambda alphabet: alphabet[0]))
    file.write_text(f"p2p:\n  network_token: {token}\n  plugins: {block}\n")
    return str(file)


def test_the_built_in_store_and_transport_are_listed_and_chosen() -> None:
    listed = rows()
    assert listed["sqlite"] == {
        "kind": "ledger_store",
        "name": "sqlite",
        "plugin": "store_sqlite",
        "distribution": "kairos-store-sqlite",
        "version": "0.1.0",
        "state": "loaded",
        "chosen": True,
        "reason": "",
    }
    assert listed["tls"]["chosen"]
    assert list(listed) == list(rows()), "the order is the same each time"


def test_the_table_shows_the_same_as_json() -> None:
    lines = run("plugins", "list").stdout.splitlines()
    assert lines[0].split()[:6] == ["KIND", "NAME", "DISTRIBUTION", "VERSION", "STATE", "CHOSEN"]
    assert any(
        line.split()[:6] == ["transport", "tls", "kairos-transport-tls", "0.1.0", "loaded", "yes"] for line in lines
    )


def test_a_configuration_chooses_otherwise(install: Any, tmp_path: Path) -> None:
    install("acme-pigeon", TRANSPORT)
    assert [rows()[name]["chosen"] for name in ("tls", "pigeon")] == [True, False]
    listed = rows("--config", config(tmp_path, "{transport: pigeon, disabled: [store_sqlite]}"))
    assert [listed[name]["chosen"] for name in ("tls", "pigeon")] == [False, True]
    assert (listed["store_sqlite"]["state"], listed["store_sqlite"]["chosen"]) == ("disabled", False)


def test_a_choice_that_cannot_be_made_is_a_warning_and_the_list_is_still_there(tmp_path: Path) -> None:
    result = run("plugins", "list", "--json", "--config", config(tmp_path, "{transport: owl, disabled: [typo]}"))
    assert result.exit_code == 0
    assert "Warning: no transport is called 'owl'; installed: tls." in result.stderr
    assert "Warning: p2p.plugins.disabled names 'typo', which is not installed" in result.stderr
    assert len(json.loads(result.stdout)) >= 7


def test_a_broken_plugin_is_listed_with_its_reason(install: Any) -> None:
    install("acme-bad", "import no_such_library")
    row = rows()["acme_bad"]
    assert (row["kind"], row["state"], row["chosen"]) == ("", "failed", False)
    assert row["reason"] == "ModuleNotFoundError: No module named 'no_such_library'"
    assert rows()["tls"]["chosen"]


def test_a_configuration_that_is_wrong_is_an_error() -> None:
    result = run("plugins", "list", "--config", "/nowhere.yaml")
    assert result.exit_code == 1
    assert "/nowhere.yaml" in result.stderr


def test_every_kind_of_plugin_can_be_begun() -> None:
    assert set(KINDS) == {kind.value for kind in Kind} == {*PATTERNS, "commands"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_loads_as_it_is(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "new"
    result = run("plugins", "new", kind, "first_try", str(directory))
    assert result.exit_code == 0, result.output
    assert sorted(Path(line) for line in result.output.splitlines()) == sorted(
        path for path in directory.rglob("*") if path.is_file()
    )
    (package,) = directory.glob("kairos_*")
    assert compileall.compile_dir(directory, quiet=1, legacy=True)
    monkeypatch.syspath_prepend(str(directory))
    plugins = load_plugins(found=[EntryPoint(package.name, package.name, "kairos.plugins")])
    assert [(record.kind, record.state) for record in plugins.records] == [(kind, "loaded")]
    name = "first-try" if kind == "commands" else "first_try"
    extra = {"directory": tmp_path} if kind == "ledger_store" else {}
    assert plugins.get(kind, name).create({}, **extra) is not None


@pytest.mark.parametrize("kind", PATTERNS)
def test_the_check_that_a_new_plugin_runs_exists_and_is_awaited_rightly(kind: str) -> None:
    module, _, function = PATTERNS[kind].check.partition(".")
    check = getattr(import_module(f"kairos_core.testing.{module}"), function)
    assert inspect.iscoroutinefunction(check) is PATTERNS[kind].is_async


@pytest.mark.system
def test_the_test_of_a_new_plugin_fails_until_it_is_written_and_passes_then(tmp_path: Path) -> None:
    run("plugins", "new", "ledger_store", "folder", str(tmp_path / "folder"))
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "-c", "pyproject.toml"]
    environment = {"PYTHONPATH": ".", "PATH": "/usr/bin:/bin"}
    before = subprocess.run(argv, cwd=tmp_path / "folder", env=environment, capture_output=True, text=True, check=False)
    assert before.returncode == 1
    assert "NotImplementedError" in before.stdout
    source = tmp_path / "folder/kairos_store_folder/__init__.py"
    source.write_text(
        source.read_text().replace("class FolderLedgerStore(LedgerStore)", "class Unused(LedgerStore)")
        + "\n\nfrom kairos_store_sqlite import SqliteStore as FolderLedgerStore\n"
    )
    after = subprocess.run(argv, cwd=tmp_path / "folder", env=environment, capture_output=True, text=True, check=False)
    assert after.returncode == 0, after.stdout


@pytest.mark.parametrize("name", ["9lives", "Owl", "a-b", "../up", "", "a" * 40])
def test_a_name_that_python_could_not_import_is_refused(name: str, tmp_path: Path) -> None:
    result = run("plugins", "new", "engine", name, str(tmp_path / "new"))
    assert result.exit_code == 1
    assert "cannot be a plugin's name" in result.stderr
    assert not (tmp_path / "new").exists()


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("work of a week")
    result = run("plugins", "new", "engine", "owl", str(tmp_path))
    assert result.exit_code == 1
    assert "is not empty" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
