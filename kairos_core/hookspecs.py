"""The hooks of Kairos, all of them. Each is a plain function, called once while a node is assembled.

A plugin is a module (or object) found through the entry point group `kairos.plugins`. It implements one or more
of these functions and lends out providers by calling `register`:

    from kairos_core import hookimpl

    @hookimpl
    def register_discovery(register):
        register("file", FileDiscovery, settings=FileSettings, section="p2p.file_discovery")

`register(name, factory, settings=Model, section="p2p.x")` offers a provider under a name. The factory is called
with the settings, made by that model from that section of the configuration and checked: a class derived from
`kairos_core.Settings`, or from pydantic's BaseModel, which costs the agent more memory (a model without a
section, and a factory without a model, are fine: the factory is then called without arguments). A provider that
reads several sections gives `settings={"k3s": Server, "k3s-agent": Agent}` and no section; its factory gets one
validated model for each, in that order. Nothing is opened or started before the node calls the provider. Which
offer is used is configuration, never call order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

import pluggy

if TYPE_CHECKING:
    import click
    from pydantic import BaseModel

    from kairos_core.interfaces import Discovery, Engine, LedgerStore, Network, Transport
    from kairos_core.settings import Settings

    Model: TypeAlias = type[Settings] | type[BaseModel]

PROJECT = "kairos"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Provider_contra = TypeVar("Provider_contra", contravariant=True)


class Register(Protocol[Provider_contra]):
    """Offers a provider under a name."""

    def __call__(
        self,
        name: str,
        factory: Callable[..., Provider_contra],
        *,
        settings: Model | Mapping[str, Model] | None = None,
        section: str | None = None,
    ) -> None: ...


@hookspec
def register_discovery(register: Register[Discovery]) -> None:
    """Offer ways to find peers. A node runs any number of them; `p2p.plugins.discovery` narrows the choice."""


@hookspec
def register_transport(register: Register[Transport]) -> None:
    """Offer ways to carry bytes between peers. A node uses one: `p2p.plugins.transport`."""


@hookspec
def register_ledger_store(register: Register[LedgerStore]) -> None:
    """Offer places to keep the ledger. A node uses one: `p2p.plugins.store`; without any, it forgets at restart.

    The factory is called with the keyword `directory` (a pathlib.Path that exists, 0700) and the settings, if any.
    """


@hookspec
def register_network(register: Register[Network]) -> None:
    """Offer networks for Kubernetes. A node enters an ordered list of them: `p2p.plugins.networks`."""


@hookspec
def register_engine(register: Register[Engine]) -> None:
    """Offer Kubernetes engines. A node uses one: `p2p.plugins.engine`."""


@hookspec
def register_commands(register: Register[click.Command]) -> None:
    """Offer commands of the `kairos` command line; the factory returns the click command."""
