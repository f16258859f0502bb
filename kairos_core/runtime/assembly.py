"""From configuration and installed plugins to the parts of one node. Nothing here opens or starts anything."""

from __future__ import annotations

import hashlib
import logging
import platform
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kairos_core.cluster.controller import Spec
from kairos_core.cluster.durable import Durable
from kairos_core.cluster.election import Rules
from kairos_core.config import P2P, Config, render_hostname
from kairos_core.errors import ConfigError, PluginError
from kairos_core.interfaces import Discovery, Engine, LedgerStore, Network, Transport
from kairos_core.model import Role
from kairos_core.protocol.otp import Keyring
from kairos_core.protocol.token import Token, parse_token
from kairos_core.runtime.choice import DEFAULTS, chosen_names
from kairos_core.runtime.offers import Kind, Offer
from kairos_core.runtime.plugins import Plugins
from kairos_core.service.settings import ServiceSettings
from kairos_core.settings import SecretStr
from kairos_core.version import __version__

logger = logging.getLogger(__name__)


@dataclass
class Parts:
    """The providers of one node, made but not started; what is missing turns its feature off."""

    transport: Transport
    store: LedgerStore | None
    discoveries: dict[str, Discovery]
    networks: list[tuple[Network, bool]]  # with whether Kubernetes uses it
    engine: Engine | None
    chosen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def make_parts(config: Config, plugins: Plugins, ledger_directory: Path, kind: str) -> Parts:
    """Make the providers that a configuration chooses. Raises PluginError, ConfigError."""
    p2p = network_block(config)
    names = _names(config, plugins, kind)

    def one(of: Kind, **extra: object) -> Any:
        return plugins.get(of, names[of][0]).create(config.settings, **extra) if names[of] else None

    transport = one(Kind.TRANSPORT)
    if transport is None:
        raise PluginError(
            "no transport is installed, so this node could reach no peer. Install kairos-transport-tls, or "
            "everything: pip install 'kairos-core[default]'"
        )
    discoveries, skipped = _discoveries(config, plugins, names[Kind.DISCOVERY])
    parts = Parts(
        transport=transport,
        store=one(Kind.LEDGER_STORE, directory=ledger_directory),
        discoveries=discoveries,
        networks=[
            (offer.create(config.settings), offer.name != "vpn" or p2p.vpn.use)
            for offer in plugins.select(Kind.NETWORK, names[Kind.NETWORK])
        ],
        engine=one(Kind.ENGINE),
    )
    names[Kind.DISCOVERY] = tuple(discoveries)
    parts.chosen = {each.value: chosen for each, chosen in names.items()}
    unused = _unused_engines(config, plugins, names[Kind.ENGINE]) if kind == "node" else []
    parts.warnings = [*_warnings(config, parts, kind), *unused, *skipped]
    return parts


def make_engine(config: Config | None, plugins: Plugins) -> Engine | None:
    """Make the engine alone, for a command that acts beside the agent; None when none is installed.

    Without a configuration it is the default one: what it has made, it knows from the disk. Raises PluginError,
    ConfigError.
    """
    wanted = config.p2p.plugins.engine if config is not None and config.p2p is not None else None
    offer = plugins.choose(Kind.ENGINE, wanted, DEFAULTS[Kind.ENGINE])
    engine: Engine | None = offer.create(config.settings if config is not None else None) if offer else None
    return engine


def _unused_engines(config: Config, plugins: Plugins, names: Sequence[str]) -> list[str]:
    """Tell of blocks that are enabled and belong to an engine that is not used: the reference would run that one."""
    return [
        f"{section}.enabled is true, but the engine is {', '.join(names)}. Set p2p.plugins.engine: {offer.name}"
        for offer in plugins.offers(Kind.ENGINE).values()
        if offer.name not in names
        for section in offer.sections
        if getattr(config.settings.get(section), "enabled", None) is True
    ]


def _discoveries(config: Config, plugins: Plugins, names: Sequence[str]) -> tuple[dict[str, Discovery], list[str]]:
    """Make the discoveries. One that nobody asked for and that lacks a setting is left out, with a warning."""
    made: dict[str, Discovery] = {}
    skipped: list[str] = []
    for offer in plugins.select(Kind.DISCOVERY, names):
        try:
            made[offer.name] = offer.create(config.settings)
        except ConfigError as error:
            if network_block(config).plugins.discovery is not None:
                raise
            skipped.append(str(error))
    return made, skipped


def _names(config: Config, plugins: Plugins, kind: str) -> dict[Kind, tuple[str, ...]]:
    p2p = network_block(config)
    kinds: list[Kind] = [Kind.DISCOVERY, Kind.TRANSPORT, Kind.LEDGER_STORE, Kind.NETWORK]
    if kind == "node":
        return {each: chosen_names(each, config, p2p, plugins) for each in (*kinds, Kind.ENGINE)}
    # An operator takes part in the network, and runs no Kubernetes.
    names = {each: chosen_names(each, config, p2p, plugins) for each in kinds}
    attached = tuple(name for name in names[Kind.NETWORK] if name != "kubevip")
    return {**names, Kind.NETWORK: attached, Kind.ENGINE: ()}


def _warnings(config: Config, parts: Parts, kind: str) -> Sequence[str]:
    p2p, found = network_block(config), []
    if p2p.vpn.create and "vpn" not in parts.chosen["network"] and p2p.plugins.networks is None:
        found.append("the VPN is wanted (p2p.vpn.create), but no plugin offers it; nodes use their LAN addresses")
    if config.kubevip.enabled and kind == "node" and "kubevip" not in parts.chosen["network"]:
        found.append("kubevip.eip is set, but no plugin offers kubevip; the elastic IP is not used")
    if not parts.discoveries and not p2p.peers:
        found.append("no discovery is installed and p2p.peers is empty: this node waits until others dial it")
    if parts.store is None:
        found.append("no ledger store is installed: the ledger is forgotten at restart and fetched from peers")
    if parts.engine is None and kind == "node":
        found.append("no Kubernetes engine is installed: this node only coordinates")
    return [*config.warnings, *found]


def network_block(config: Config) -> P2P:
    """Return the `p2p` block. Raises ConfigError when there is none."""
    if config.p2p is None:
        raise ConfigError(
            "the configuration has no p2p block, so this machine belongs to no network. Set p2p.network_token; "
            "a file to begin with comes from: kairos create-config"
        )
    return config.p2p


def make_spec(config: Config, keyring: Keyring, durable: Durable, kind: str, engine: Offer | None) -> Spec:
    """Return what this node is configured to be. Without an engine it takes no role, and nobody waits for it."""
    p2p = network_block(config)
    token = parse_token(p2p.network_token.get_secret_value())
    automatic = p2p.auto.enabled
    wish = forced_role(config, engine)
    if engine is None and kind == "node":
        wish = Role.NONE
    votes = kind == "node" and automatic and wish is not Role.NONE
    database = p2p.auto.ha.external_db

    def cluster_token(cluster_id: str) -> SecretStr:
        return SecretStr(keyring.secret(f"cluster token {cluster_id}").hex())

    return Spec(
        name=host_name(config),
        rules=_rules(p2p, token, durable, votes),
        kind=kind,
        wish=wish,
        automatic=automatic,
        has_engine=engine is not None,
        datastore=database if database and database.get_secret_value() else None,
        cluster_token=cluster_token,
        patience=p2p.auto.ha.replace_after,
    )


def engine_offer(config: Config, plugins: Plugins) -> Offer | None:
    """Return the engine that a node uses, None when none is installed. Raises PluginError."""
    names = chosen_names(Kind.ENGINE, config, network_block(config), plugins)
    return plugins.get(Kind.ENGINE, names[0]) if names else None


def forced_role(config: Config, engine: Offer | None) -> Role | None:
    """Return the role that the configuration forces.

    Without automatic roles that is the role of the first of the engine's blocks that is enabled: k3s', say.
    """
    p2p = network_block(config)
    if p2p.role is not None or p2p.auto.enabled or engine is None:
        return p2p.role
    blocks = (config.settings.get(section) for section in engine.sections)
    enabled = (block for block in blocks if isinstance(block, ServiceSettings) and block.enabled)
    return next((block.ROLE for block in enabled if block.ROLE is not None), None)


def _rules(p2p: P2P, token: Token, durable: Durable, votes: bool) -> Rules:
    fixed = token.kairos.quorum if token.kairos else None
    quorum = fixed or p2p.nodes_to_start // 2 + 1
    return Rules(
        network_id=p2p.network_id,
        incarnation=durable.incarnation,
        votes=votes,
        quorum=quorum,
        nodes_to_start=p2p.nodes_to_start,
        # Only a quorum in the token makes it safe to hurry: with a small default one, two pairs of machines
        # that have not met yet could each believe to be complete.
        expected=(p2p.minimum_nodes or 2 * fixed - 1) if fixed else None,
        ha_masters=p2p.auto.ha_masters if p2p.auto.is_ha else None,
    )


def host_name(config: Config) -> str:
    """Return this machine's name: the rendered `hostname` of the configuration, else the system's."""
    if config.hostname is None:
        return socket.gethostname().partition(".")[0]
    identifier = machine_id()
    # "Random" stays the same on one machine: a name that changed at each start would be another node each time.
    chance = hashlib.sha256(b"hostname " + identifier.encode()).hexdigest()
    return render_hostname(config.hostname, identifier, lambda length: chance[:length])


def machine_id() -> str:
    """Return the machine id (machine-id(5)); without one, a stand-in made from the host name."""
    try:
        found = Path("/etc/machine-id").read_text().strip()
    except OSError:
        found = ""
    return found or hashlib.sha256(socket.gethostname().encode()).hexdigest()[:32]


def describe(spec: Spec, durable: Durable, seal_key: bytes, addresses: Sequence[str]) -> dict[str, Any]:
    """Return this node's `peers` entry: who it is and where it listens."""
    return {
        "network_id": spec.rules.network_id,
        "name": spec.name,
        "kind": spec.kind,
        "wish": spec.wish.value if spec.wish else "",
        "incarnation": durable.incarnation,
        "serves": durable.served,
        "node": durable.node_name or "",
        "seal_key": seal_key,
        "addresses": list(addresses),
        "os": platform.system().lower(),
        "arch": platform.machine(),
        "version": __version__,
    }
