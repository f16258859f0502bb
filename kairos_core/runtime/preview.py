"""What this machine would run, told from its configuration alone: nothing is opened, started or asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kairos_core.config import Config
from kairos_core.errors import PluginError
from kairos_core.model import Attachment, Join, NodePlan, Preview, Role
from kairos_core.runtime.assembly import engine_offer, forced_role, host_name, network_block
from kairos_core.runtime.choice import chosen_names
from kairos_core.runtime.lan import lan_attachment
from kairos_core.runtime.offers import Kind
from kairos_core.runtime.plugins import Plugins
from kairos_core.settings import SecretStr

_SECRET = SecretStr("(not known yet)")
_API_PORT = 6443


def possible_roles(config: Config, plugins: Plugins) -> tuple[Role, ...]:
    """Return the roles that the network may give this machine: the forced one, else all that the mode has.

    Raises PluginError.
    """
    if (forced := forced_role(config, engine_offer(config, plugins))) is not None:
        return (forced,)
    if not network_block(config).auto.enabled:
        return ()
    if network_block(config).auto.is_ha:
        return Role.CLUSTER_INIT, Role.HA, Role.WORKER
    return Role.MASTER, Role.WORKER


def preview_roles(config: Config, plugins: Plugins, roles: Iterable[Role]) -> tuple[tuple[NodePlan, Preview], ...]:
    """Return for each role but `none` the plan and what the engine would run. Raises PluginError, EngineError."""
    offer = engine_offer(config, plugins)
    if offer is None:
        raise PluginError(
            "no Kubernetes engine is installed, so this machine would run none. Install kairos-engine-k3s"
        )
    engine = offer.create(config.settings)
    return tuple((plan, engine.preview(plan)) for plan in plans_of(config, plugins, roles))


def plans_of(config: Config, plugins: Plugins, roles: Iterable[Role]) -> tuple[NodePlan, ...]:
    """Return for each role but `none` its plan. Raises PluginError."""
    attachment = preview_attachment(config, plugins)
    return tuple(plan_of(config, role, attachment) for role in roles if role is not Role.NONE)


def preview_attachment(config: Config, plugins: Plugins) -> Attachment:
    """Return what the networks would give, in their order, and of the LAN what they leave open."""
    p2p, used = network_block(config), Attachment()
    for offer in plugins.select(Kind.NETWORK, chosen_names(Kind.NETWORK, config, p2p, plugins)):
        attachment = offer.create(config.settings).preview()
        used = used.merged(attachment) if offer.name != "vpn" or p2p.vpn.use else used
    return used.merged(lan_attachment()) if used.interface is None or used.node_ip is None else used


def plan_of(config: Config, role: Role, attachment: Attachment) -> NodePlan:
    """Return the plan of a role, with words in brackets for what other machines will say."""
    p2p = network_block(config)
    database = p2p.auto.ha.external_db
    joins = role in (Role.HA, Role.WORKER) and p2p.auto.enabled
    server = f"https://{attachment.endpoint or '<the address of a master>'}:{_API_PORT}"
    return NodePlan(
        role=role,
        node_name=host_name(config),
        attachment=attachment if role.is_master else replace(attachment, manifests=()),
        cluster_token=None if joins or not p2p.auto.enabled else _SECRET,
        join=Join(server, _SECRET) if joins else None,
        datastore=database if role.is_master and database and database.get_secret_value() else None,
        tls_names=_lan_names() if role.is_master else (),
    )


def _lan_names() -> tuple[str, ...]:
    lan = lan_attachment()
    return (lan.node_ip,) if lan.node_ip else ()
