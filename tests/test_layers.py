"""The laws of the house: imports go down only, pure code stays pure, plugins use public names, files stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kairos_core

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "kairos_core").rglob("*.py"))
PLUGINS = sorted(path for path in ROOT.glob("plugins/*/kairos_*/**/*.py"))
PLUGIN_TESTS = sorted(path for path in ROOT.glob("plugins/*/tests/**/*.py"))

LAYERS = [
    ["errors", "settings", "version"],
    ["model", "lan"],
    ["protocol"],
    ["interfaces", "config"],
    ["hookspecs", "cluster"],
    ["service", "kubernetes", "ports"],
    ["runtime", "agent_service"],
    ["api"],
    ["cli", "testing"],
]
"""From the lowest to the highest. A layer may use those below it, and itself."""

RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

PURE = {"errors", "settings", "model", "lan", "protocol", "cluster", "config"}
IMPURE = {
    *("asyncio", "socket", "subprocess", "threading", "time", "random", "os", "pathlib", "logging", "pluggy"),
    *("secrets", "selectors", "select", "signal", "shutil", "tempfile", "multiprocessing", "ssl", "sqlite3"),
    *("urllib", "http", "uuid", "platform", "sys", "io", "click", "concurrent", "sched"),
}

PURE_PARTS = ("urllib.parse.", "pathlib.PurePath", "random.Random")
"""Parts of those modules that do nothing by themselves. A Random is an argument, and never made in pure code."""

FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "base", "impl", "data", "info"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each module that a file imports, also inside functions, with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from kairos_core import cluster` names a module too.
            yield from ((f"{_whole_name(node, path)}.{alias.name}", node.lineno) for alias in node.names)


def _whole_name(node: ast.ImportFrom, path: Path) -> str:
    if not node.level:
        return node.module or ""
    package = path.relative_to(ROOT).with_suffix("").parts[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def layer_of(path: Path) -> str:
    parts = path.relative_to(ROOT / "kairos_core").parts
    return parts[0].removesuffix(".py")


def imported_layers(path: Path) -> Iterator[tuple[str, str]]:
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] == "kairos_core" and len(parts) > 1 and parts[1] in RANK:
            yield parts[1], f"{relative(path)}:{line}"


@pytest.mark.parametrize(
    "path", [path for path in CORE if path.parent.name != "kairos_core" or path.stem != "__init__"], ids=relative
)
def test_imports_go_down_only(path: Path) -> None:
    layer = layer_of(path)
    assert layer in RANK, f"{layer} has no layer: put it into LAYERS, and into docs/explanation"
    for other, where in imported_layers(path):
        assert RANK[other] <= RANK[layer], f"{where}: {layer} is below {other} and must not import it"


def test_the_api_sees_only_what_the_runtime_offers_it() -> None:
    for path in (ROOT / "kairos_core/api").rglob("*.py"):
        for name, line in imports(path):
            if name.startswith("kairos_core.runtime"):
                assert name.startswith("kairos_core.runtime.control."), f"{relative(path)}:{line}: {name}"


@pytest.mark.parametrize("path", [path for path in CORE if layer_of(path) in PURE], ids=relative)
def test_pure_code_reads_no_clock_file_or_socket(path: Path) -> None:
    for name, line in imports(path):
        is_pure = name.split(".")[0] not in IMPURE or name.startswith(PURE_PARTS)
        assert is_pure, f"{relative(path)}:{line}: pure code must not import {name}"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "input", "print", "Random"), f"{relative(path)}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in ("now", "today", "utcnow"), (
                f"{relative(path)}:{node.lineno}: time is an argument"
            )


@pytest.mark.parametrize("path", CORE, ids=relative)
def test_the_core_imports_no_plugin(path: Path) -> None:
    packages = {plugin.relative_to(ROOT).parts[2] for plugin in PLUGINS}
    for name, line in imports(path):
        assert name.split(".")[0] not in packages, f"{relative(path)}:{line}: the core must not know {name}"


@pytest.mark.parametrize("path", PLUGINS, ids=relative)
def test_plugins_import_public_names_only_and_no_other_plugin(path: Path) -> None:
    own = path.relative_to(ROOT).parts[2]
    for name, line in imports(path):
        package, _, rest = name.partition(".")
        if package == "kairos_core":
            assert rest in kairos_core.__all__, f"{relative(path)}:{line}: {name} is not a public name of kairos_core"
        elif package.startswith("kairos_"):
            assert package == own, f"{relative(path)}:{line}: plugins meet as data, never as imports ({name})"


@pytest.mark.parametrize("path", [*CORE, *PLUGINS], ids=relative)
def test_no_module_has_a_name_that_says_nothing(path: Path) -> None:
    words = {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
    assert not words & FORBIDDEN_NAMES


@pytest.mark.parametrize("path", [*CORE, *PLUGINS], ids=relative)
def test_no_module_has_more_than_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", [*CORE, *PLUGINS], ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{relative(path)} has no docstring"


def test_every_public_name_is_there_and_loaded_from_where_it_is_declared() -> None:
    source = (ROOT / "kairos_core/__init__.py").read_text()
    declared = {
        name.partition(".")[2].rpartition(".")[2]
        for name, _ in imports(ROOT / "kairos_core/__init__.py")
        if name.startswith("kairos_core.")
    }
    assert declared == set(kairos_core.__all__)
    assert re.search(r"__all__ = \[", source)
    for name in kairos_core.__all__:
        assert getattr(kairos_core, name) is not None
    assert not hasattr(kairos_core, "no_such_name")
