"""Loads plugins one by one: import, check of the hooks, call of the hooks. What one does reaches no other.

Whatever goes wrong ends as the reason in the plugin's record, and none of its offers remain.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.metadata import EntryPoint

import pluggy

from kairos_core import hookspecs
from kairos_core.errors import PluginError
from kairos_core.runtime.offers import Kind, Misuse, Offer, Registrar, sentence

GROUP = "kairos.plugins"
_HOOKS = {kind.hook: kind for kind in Kind}
_MARK = f"{hookspecs.PROJECT}_impl"


@dataclass(frozen=True, slots=True)
class Record:
    """One line of `kairos plugins list`: an offer, or a plugin without any (then `name` is the plugin's).

    `state` is loaded, failed, refused (by the plugin itself) or disabled (by the configuration), and `reason`
    says why. `kind` is what the plugin would offer, and empty where it never came to say it.
    """

    kind: str
    name: str
    plugin: str
    distribution: str
    version: str
    state: str
    reason: str = ""


class Loader:
    """Loads plugins and collects their records and offers."""

    def __init__(self, disabled: Collection[str]) -> None:
        self._disabled = {plain(name) for name in disabled}
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.records: list[Record] = []
        self.offers: list[Offer] = []

    def load(self, point: EntryPoint) -> None:
        """Load one plugin. What it raises, SystemExit too, becomes the reason of its record."""
        distribution, version, name = origin(point)
        record = Record("", name, name, distribution, version, "loaded")
        if self._disabled & {plain(name), plain(distribution)}:
            reason = "named in p2p.plugins.disabled"
            self.records.append(replace(record, state="disabled", reason=reason))
            return
        kinds: list[Kind] = []
        try:
            plugin = point.load()
            kinds += checked_hooks(plugin)
            offers = self._offers_of(plugin, kinds, Registrar(distribution, version))
        except (Exception, SystemExit) as error:
            state, reason = _outcome(error)
            self.records.append(replace(record, kind=", ".join(kinds), state=state, reason=reason))
        else:
            self.offers += offers
            lines = [replace(record, kind=offer.kind.value, name=offer.name) for offer in offers]
            self.records += lines or [replace(record, kind=", ".join(kinds), reason="offers nothing")]

    def _offers_of(self, plugin: object, kinds: Sequence[Kind], registrar: Registrar) -> list[Offer]:
        self._manager.register(plugin)
        try:
            for kind in kinds:
                others = [other for other in self._manager.get_plugins() if other is not plugin]
                call = self._manager.subset_hook_caller(kind.hook, others)
                call(register=registrar.for_kind(kind))
            self._check_sections(registrar.offers)
        except BaseException:
            self._manager.unregister(plugin)
            raise
        return registrar.offers

    def _check_sections(self, offers: Sequence[Offer]) -> None:
        taken = {section: offer for offer in self.offers for section in offer.sections}
        for offer in offers:
            for section, model in offer.sections.items():
                holder = taken.setdefault(section, offer)
                if holder.sections[section] is not model:
                    raise Misuse(
                        f"the section {section} of the configuration is already read by the "
                        f"{holder.kind.noun} {holder.name!r} of {holder.distribution}"
                    )


def _outcome(error: BaseException) -> tuple[str, str]:
    if isinstance(error, PluginError):
        return "refused", str(error)
    return "failed", str(error) if isinstance(error, Misuse) else sentence(error)


def checked_hooks(plugin: object) -> list[Kind]:
    """Return the kinds whose hooks a plugin implements. Raises Misuse for a hook that could not work."""
    kinds = set()
    for name in dir(plugin):
        # Static look-up: a property of the plugin is not to run only because we look around.
        function = inspect.getattr_static(plugin, name, None)
        function = getattr(function, "__func__", function)
        if not inspect.isfunction(function):
            continue
        options = getattr(function, _MARK, None)
        if isinstance(options, dict):
            kinds.add(_checked_hook(options.get("specname") or name, getattr(plugin, name)))
        elif name in _HOOKS:
            raise Misuse(f"{name} is not marked as a hook: put @hookimpl of kairos_core above it")
    return [kind for kind in Kind if kind in kinds]


def _checked_hook(name: str, function: object) -> Kind:
    if name not in _HOOKS:
        near = get_close_matches(name, _HOOKS, n=1)
        advice = f"did you mean {near[0]}?" if near else f"the hooks are {', '.join(_HOOKS)}"
        raise Misuse(f"no hook is called {name}: {advice}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise Misuse(f"{name} is async, but hooks are plain functions: they offer, and providers do the work")
    if inspect.isgeneratorfunction(function):
        raise Misuse(f"{name} yields, but hooks are plain functions that call register")
    assert callable(function)
    names = list(inspect.signature(function).parameters)
    if names not in ([], ["register"]):
        raise Misuse(f"{name} takes ({', '.join(names)}), but its only argument is called register")
    return _HOOKS[name]


def origin(point: EntryPoint) -> tuple[str, str, str]:
    """Return distribution, version and name: the order in which plugins load, the same on every machine."""
    if point.dist is None:
        return "?", "?", point.name
    return point.dist.name or "?", point.dist.version or "?", point.name


def plain(name: str) -> str:
    """Spell a name as package indexes compare them: kairos-net-vpn and kairos_net_vpn are one (PEP 503)."""
    return name.lower().replace("_", "-").replace(".", "-")
