"""Which of the installed offers a node uses: what the configuration names, else what is built in."""

from __future__ import annotations

from kairos_core.config import P2P, Config
from kairos_core.runtime.offers import Kind
from kairos_core.runtime.plugins import Plugins

NETWORK_ORDER = ("vpn", "kubevip")
"""The order of the built-in networks: the first gives the address, the second only an endpoint and manifests."""

DEFAULTS = {Kind.TRANSPORT: "tls", Kind.LEDGER_STORE: "sqlite", Kind.ENGINE: "k3s"}
"""What is used where the configuration names nothing; when it is not installed, the only other offer is."""


def chosen_names(kind: Kind, config: Config, p2p: P2P, plugins: Plugins) -> tuple[str, ...]:
    """Return the names of the offers of a kind that a node uses, in the order of use; empty: that is off.

    Raises PluginError when a wanted offer is not there, or nobody made a choice (see Plugins.choose).
    """
    if kind is Kind.DISCOVERY:
        return _discoveries(p2p, plugins)
    if kind is Kind.NETWORK:
        return _networks(config, p2p, plugins)
    if kind is Kind.COMMANDS:
        return tuple(plugins.offers(kind))
    named = {
        Kind.TRANSPORT: p2p.plugins.transport,
        Kind.LEDGER_STORE: p2p.plugins.store,
        Kind.ENGINE: p2p.plugins.engine,
    }
    offer = plugins.choose(kind, named[kind], DEFAULTS[kind])
    return (offer.name,) if offer else ()


def _discoveries(p2p: P2P, plugins: Plugins) -> tuple[str, ...]:
    if p2p.plugins.discovery is not None:
        return tuple(offer.name for offer in plugins.select(Kind.DISCOVERY, p2p.plugins.discovery))
    return tuple(name for name in plugins.offers(Kind.DISCOVERY) if not (name == "dht" and p2p.disable_dht))


def _networks(config: Config, p2p: P2P, plugins: Plugins) -> tuple[str, ...]:
    if p2p.plugins.networks is not None:
        return tuple(offer.name for offer in plugins.select(Kind.NETWORK, p2p.plugins.networks))
    wanted = {"vpn": p2p.vpn.create, "kubevip": config.kubevip.enabled}
    installed = plugins.offers(Kind.NETWORK)
    built_in = [name for name in NETWORK_ORDER if name in installed and wanted[name]]
    return (*built_in, *(name for name in installed if name not in NETWORK_ORDER))
