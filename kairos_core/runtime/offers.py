"""What plugins lend out: the kinds of providers, an offer, and the `register` that collects offers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from kairos_core.errors import ConfigError, KairosError, PluginError
from kairos_core.interfaces import Discovery, Engine, LedgerStore, Network, Transport
from kairos_core.settings import Settings

if TYPE_CHECKING:
    from pydantic import BaseModel

Model: TypeAlias = "type[Settings] | type[BaseModel]"
"""The class of a section: ours, or pydantic's, which costs an agent 15 MB."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_SECTION = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")


class Kind(StrEnum):
    """What a plugin can offer. Each kind has one hook: `register_` and its name."""

    DISCOVERY = "discovery"
    TRANSPORT = "transport"
    LEDGER_STORE = "ledger_store"
    NETWORK = "network"
    ENGINE = "engine"
    COMMANDS = "commands"

    @property
    def hook(self) -> str:
        return f"register_{self.value}"

    @property
    def noun(self) -> str:
        """What one provider of this kind is called in a sentence."""
        return "command" if self is Kind.COMMANDS else self.value.replace("_", " ")

    @property
    def setting(self) -> str:
        """Where the configuration names the offers that a node uses."""
        return "p2p.plugins." + {"ledger_store": "store", "network": "networks"}.get(self.value, self.value)


_MADE: Mapping[Kind, type] = {
    Kind.DISCOVERY: Discovery,
    Kind.TRANSPORT: Transport,
    Kind.LEDGER_STORE: LedgerStore,
    Kind.NETWORK: Network,
    Kind.ENGINE: Engine,
    Kind.COMMANDS: click.Command,
}


@dataclass(frozen=True, slots=True)
class Offer:
    """A provider that a plugin lends out under a name."""

    kind: Kind
    name: str
    factory: Callable[..., Any] = field(repr=False)
    sections: Mapping[str, Model]  # the settings models by the section that each reads, in order
    distribution: str
    version: str

    def create(self, settings: Mapping[str, object] | None = None, **extra: Any) -> Any:
        """Make the provider from its section of `settings`, and `extra` as keywords (a store: `directory`).

        A section that the configuration leaves out has the defaults of its model. Raises ConfigError when a
        setting without default is missing, PluginError when the plugin fails or makes something else.
        """
        arguments = [self._section_of(section, settings or {}) for section in self.sections]
        try:
            provider = self.factory(*arguments, **extra)
        except KairosError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"the {self.kind.noun} {self.name!r} cannot be made: {sentence(error)}. "
                f"Report it to the authors of {self.distribution} {self.version}."
            ) from error
        if not isinstance(provider, _MADE[self.kind]):
            raise PluginError(
                f"the {self.kind.noun} {self.name!r} of {self.distribution} {self.version} made a "
                f"{type(provider).__name__}, expected a kairos_core {_MADE[self.kind].__name__}. "
                f"Report it to its authors."
            )
        return provider

    def _section_of(self, section: str, settings: Mapping[str, object]) -> object:
        given = settings.get(section)
        if given is not None:
            return given
        model = self.sections[section]
        if missing := _required(model):
            raise ConfigError(
                f"the {self.kind.noun} {self.name!r} needs {section}.{missing[0]}, which is not configured. "
                f"Set it, or name only others in {self.kind.setting}."
            )
        try:
            return model()
        except ValueError as error:
            raise ConfigError(
                f"the {self.kind.noun} {self.name!r} cannot do without {section}: {sentence(error)}. "
                f"Set it, or name only others in {self.kind.setting}."
            ) from None


def _required(model: Model) -> list[str]:
    if issubclass(model, Settings):
        return model.required()
    return [field.alias or name for name, field in model.model_fields.items() if field.is_required()]


class Registrar:
    """Collects the offers of one plugin; `for_kind` gives the `register` that a hook of it receives."""

    def __init__(self, distribution: str, version: str) -> None:
        self._origin = distribution, version
        self.offers: list[Offer] = []

    def for_kind(self, kind: Kind) -> Callable[..., None]:
        """Return the `register` of one hook (see `kairos_core.hookspecs.Register`). It raises Misuse."""

        def register(
            name: str,
            factory: Callable[..., Any],
            *,
            settings: Model | Mapping[str, Model] | None = None,
            section: str | None = None,
        ) -> None:
            self._check(kind, name, factory)
            sections = _sections(settings, section)
            self.offers.append(Offer(kind, name, factory, sections, *self._origin))

        return register

    def _check(self, kind: Kind, name: str, factory: object) -> None:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise Misuse(f"{kind.hook} offers the name {name!r}; a name has lower-case letters, digits, - and _")
        if not callable(factory):
            raise Misuse(f"{kind.hook} offers {name!r} with a {type(factory).__name__} that cannot be called")
        if any(offer.kind == kind and offer.name == name for offer in self.offers):
            raise Misuse(f"{kind.hook} offers {name!r} twice")


class Misuse(Exception):
    """A plugin breaks the rules of the hooks; the message is the reason shown in `kairos plugins list`."""


def _sections(settings: Model | Mapping[str, Model] | None, section: str | None) -> Mapping[str, Model]:
    if isinstance(settings, Mapping):
        if section is not None:
            raise Misuse(f"section {section!r} is given beside settings that name their sections")
        named = dict(settings)
    else:
        named = {section: settings} if section is not None and settings is not None else {}
        if settings is None and section is not None:
            raise Misuse(f"section {section!r} has no settings model")
        _check_model(settings or Settings)
    for path, model in named.items():
        if not (isinstance(path, str) and _SECTION.fullmatch(path)):
            raise Misuse(f"section {path!r} is not a path such as 'p2p.example'")
        _check_model(model)
    return named


def _check_model(model: object) -> None:
    if not (isinstance(model, type) and (issubclass(model, Settings) or _is_pydantic(model))):
        raise Misuse(f"settings must be a class derived from pydantic.BaseModel or kairos_core.Settings, not {model!r}")


def _is_pydantic(model: type) -> bool:
    """Say whether a class is a model of pydantic's, without being the first to load it."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(model, pydantic.BaseModel)


def sentence(error: BaseException) -> str:
    """Return an error in one line: its type and the first line of its message, at most 200 characters."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}"[:200] if lines else type(error).__name__
