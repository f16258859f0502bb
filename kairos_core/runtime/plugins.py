"""The installed plugins and what they offer. Which offer a node uses is configuration, never call order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points

from kairos_core.errors import PluginError
from kairos_core.runtime.loader import GROUP, Loader, Record, origin, plain
from kairos_core.runtime.offers import Kind, Model, Offer

__all__ = ["GROUP", "Kind", "Offer", "Plugins", "Record", "load_plugins"]


class Plugins:
    """The installed plugins and their offers.

    A name that two plugins offer is set aside: `offers` leaves it out, and asking for it is an error that
    names both, so a plugin cannot take another's place by being installed.
    """

    def __init__(self, records: Iterable[Record], offers: Iterable[Offer], warnings: Sequence[str] = ()) -> None:
        self._offers: dict[tuple[str, str], list[Offer]] = {}
        for offer in offers:
            self._offers.setdefault((offer.kind, offer.name), []).append(offer)
        self.records = tuple(self._with_conflict(record) for record in records)
        self.warnings = tuple(warnings)

    def offers(self, kind: str) -> dict[str, Offer]:
        """Return the offers of a kind by name, in the order of their names."""
        named = {name: offers for (of, name), offers in self._offers.items() if of == kind}
        return {name: offers[0] for name, offers in sorted(named.items()) if len(offers) == 1}

    def sections(self) -> Mapping[str, Model]:
        """Return the settings models by the section of the configuration that they read."""
        every = [offer for offers in self._offers.values() for offer in offers]
        return {section: model for offer in every for section, model in offer.sections.items()}

    def get(self, kind: str, name: str) -> Offer:
        """Return the offer of this name. Raises PluginError that lists what is installed."""
        offers, of = self._offers.get((kind, name), []), Kind(kind)
        if len(offers) == 1:
            return offers[0]
        if offers:
            raise PluginError(
                f"{_both(offers)} both offer the {of.noun} {name!r}, so neither is used. Uninstall one of "
                "them, or name it in p2p.plugins.disabled."
            )
        raise PluginError(
            f"no {of.noun} is called {name!r}; installed: {', '.join(self.offers(kind)) or 'none'}."
            f"{self._why_missing(name)} Install the plugin that offers it, or set {of.setting} to one of the "
            "installed names."
        )

    def choose(self, kind: str, wanted: str | None, default: str | None) -> Offer | None:
        """Return the offer that the configuration wants, else the default if installed, else the only one.

        None when nothing of this kind is installed and nothing was wanted. Raises PluginError for an unknown
        name, for a name that two plugins offer, and for a choice among several that nobody made.
        """
        if wanted is not None:
            return self.get(kind, wanted)
        if default is not None and (kind, default) in self._offers:
            return self.get(kind, default)
        offers, of = self.offers(kind), Kind(kind)
        if len(offers) > 1:
            raise PluginError(
                f"nothing says which {of.noun} to use; installed: {', '.join(offers)}. Set {of.setting} to one of them."
            )
        return next(iter(offers.values()), None)

    def select(self, kind: str, wanted: Sequence[str] | None) -> tuple[Offer, ...]:
        """Return the named offers in the order given, or all of them for None. Raises as `get`."""
        if wanted is None:
            return tuple(self.offers(kind).values())
        return tuple(self.get(kind, name) for name in dict.fromkeys(wanted))

    def _with_conflict(self, record: Record) -> Record:
        offers = self._offers.get((record.kind, record.name), [])
        if record.state != "loaded" or len(offers) < 2:
            return record
        reason = f"{_both(offers)} both offer this name, so neither is used"
        return replace(record, state="failed", reason=reason)

    def _why_missing(self, name: str) -> str:
        """Point at an installed plugin that would probably offer the name, were it loaded."""
        for record in self.records:
            if record.state != "loaded" and name in (record.name, record.name.partition("_")[2]):
                return f" The plugin {record.plugin!r} is {record.state}: {record.reason.rstrip('.')}."
        return ""


def load_plugins(disabled: Sequence[str] = (), found: Iterable[EntryPoint] | None = None) -> Plugins:
    """Load every installed plugin but the disabled ones, each in isolation. A broken one raises nothing here.

    `disabled` has names of plugins (as in their entry points) or of distributions. `found` narrows what is
    loaded; by default it is every entry point of the group `kairos.plugins`.
    """
    points = sorted(entry_points(group=GROUP) if found is None else found, key=origin)
    loader = Loader(disabled)
    for point in points:
        loader.load(point)
    known = {plain(name) for point in points for name in (point.name, origin(point)[0])}
    installed = ", ".join(sorted({point.name for point in points})) or "none"
    warnings = [
        f"p2p.plugins.disabled names {name!r}, which is not installed; installed: {installed}"
        for name in disabled
        if plain(name) not in known
    ]
    return Plugins(loader.records, loader.offers, warnings)


def _both(offers: Sequence[Offer]) -> str:
    return " and ".join(dict.fromkeys(f"{offer.distribution} {offer.version}" for offer in offers))
