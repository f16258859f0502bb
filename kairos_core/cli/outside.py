"""Commands of plugins, found without importing plugins that have none."""

from __future__ import annotations

import ast
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from kairos_core.cli.table import ALIASES, COMMANDS

if TYPE_CHECKING:
    from kairos_core.runtime.offers import Offer


@cache
def outside_commands() -> dict[str, Offer]:
    """Return the commands of plugins that do not declare theirs, by name. A built-in name is not theirs to take."""
    return _load(tuple(point for point in _points() if declared_commands(point) is None))


def outside_names() -> dict[str, str | None]:
    """Return the names of all commands of plugins in order, with the help of those that declare it."""
    declared = {name: help for point in _points() for name, help in (declared_commands(point) or {}).items()}
    found: dict[str, str | None] = dict.fromkeys(outside_commands())
    return dict(sorted({**found, **declared}.items()))


def outside_command(name: str) -> Offer | None:
    """Return who offers a command; those who declare it are imported with those who say nothing."""
    points = [point for point in _points() if name in (declared_commands(point) or {})]
    if not points:
        return outside_commands().get(name)
    return _load((*points, *(point for point in _points() if declared_commands(point) is None))).get(name)


def declared_commands(point: EntryPoint) -> dict[str, str] | None:
    """Return what a plugin's module says of its commands without being imported: name and help in one line.

    The module has a line `COMMANDS = {"name": "Help."}`, a literal. None: it has none, and must be imported.
    """
    try:
        spec = _spec(point.module)
        body = ast.parse(Path(spec.origin).read_bytes()).body if spec and spec.origin else []
        values = [each.value for each in body if isinstance(each, ast.Assign | ast.AnnAssign) and _is_table(each)]
        said = ast.literal_eval(values[0]) if values and values[0] else None
    except Exception:  # whatever is wrong with the plugin, its loading will tell
        return None
    if not isinstance(said, dict) or not all(isinstance(text, str) for pair in said.items() for text in pair):
        return None
    return {name: help for name, help in said.items() if name not in COMMANDS and name not in ALIASES}


def _is_table(assignment: ast.Assign | ast.AnnAssign) -> bool:
    targets = assignment.targets if isinstance(assignment, ast.Assign) else [assignment.target]
    return any(isinstance(target, ast.Name) and target.id == "COMMANDS" for target in targets)


@cache
def _points() -> tuple[EntryPoint, ...]:
    return tuple(point for point in entry_points(group="kairos.plugins") if may_offer_commands(point))


@cache
def _load(points: tuple[EntryPoint, ...]) -> dict[str, Offer]:
    if not points:
        return {}
    from kairos_core.runtime.plugins import load_plugins

    offers = load_plugins(found=points).offers("commands")
    return {name: offer for name, offer in offers.items() if name not in COMMANDS and name not in ALIASES}


def forget_commands() -> None:
    """Look anew at what is installed; for tests, since a command line lives for one command."""
    for cached in (outside_commands, _points, _load):
        cached.cache_clear()


def may_offer_commands(point: EntryPoint) -> bool:
    """Say whether a plugin could implement `register_commands`, by reading its source; True when in doubt.

    A module can only have the hook if its source names it or imports everything from elsewhere. Reading takes
    microseconds, where importing a network library would cost each `kairos --help` a quarter of a second.
    """
    try:
        spec = _spec(point.module)
        if spec is None or spec.origin is None or point.attr:
            return True
        source = Path(spec.origin).read_bytes()
    except Exception:  # whatever is wrong with the plugin, its loading will tell
        return True
    return b"register_commands" in source or b"import *" in source or not spec.origin.endswith(".py")


def _spec(module: str) -> ModuleSpec | None:
    """Find a module by its dotted name, as importlib.util.find_spec does, without importing its packages."""
    top, *parts = module.split(".")
    name, spec = top, PathFinder.find_spec(top)
    for part in parts:
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations) if spec else None
    return spec
