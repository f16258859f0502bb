"""Commands of plugins, found without importing plugins that have none."""

from __future__ import annotations

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
    """Return the offered commands by name. A built-in name is not theirs to take."""
    points = [point for point in entry_points(group="kairos.plugins") if may_offer_commands(point)]
    if not points:
        return {}
    from kairos_core.runtime.plugins import load_plugins

    offers = load_plugins(found=points).offers("commands")
    return {name: offer for name, offer in offers.items() if name not in COMMANDS and name not in ALIASES}


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
