"""Each distribution declares what it imports, and nothing else: whoever installs it alone has what it needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]

PARTS = {"pydantic-core": "pydantic"}
"""Distributions of which one version belongs to one of another: that other is declared in their place."""


def normal(name: str) -> str:
    """Return the one form of a distribution's name. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(project: Path) -> set[str]:
    requirements = tomllib.loads(project.read_text())["project"]["dependencies"]
    return {normal(re.split(r"[<>=~!;\[ ]", requirement)[0]) for requirement in requirements}


def name_of(project: Path) -> str:
    return str(tomllib.loads(project.read_text())["project"]["name"])


def modules(package: Path) -> Iterator[str]:
    """Yield the outermost name of each module that a package imports, also inside functions and for types alone."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0]


def imported(project: Path) -> set[str]:
    """Return the distributions that a project imports, but for its own packages and the standard library."""
    packages = tomllib.loads(project.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    used = {module for package in packages for module in modules(project.parent / package)}
    offered = packages_distributions()
    names = {
        normal(name)
        for module in used - {*packages, *sys.stdlib_module_names}
        for name in offered.get(module) or [module]  # ours are installed in place, and in no such table
    }
    return {PARTS.get(name, name) for name in names}


@pytest.mark.parametrize("project", PROJECTS, ids=name_of)
def test_what_is_imported_is_declared_and_what_is_declared_is_imported(project: Path) -> None:
    assert imported(project) - declared(project) == set(), f"{project}: imported, and not declared"
    assert declared(project) - imported(project) == set(), f"{project}: declared, and not imported"


def test_a_distribution_is_declared_with_its_least_version() -> None:
    for project in PROJECTS:
        for requirement in tomllib.loads(project.read_text())["project"]["dependencies"]:
            assert re.search(r">=\d", requirement), f"{project}: {requirement} takes any version, however old"
