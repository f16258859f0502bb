"""What is allowed and yet probably not what the operator wants: sentences for `Config.warnings`."""

from __future__ import annotations

from collections.abc import Iterator

from kairos_core.config.blocks import P2P, CloudConfig
from kairos_core.config.document import Node


def advice(config: CloudConfig, root: Node) -> Iterator[str]:
    """Yield a sentence for each setting that has no effect, or a worse one than it seems; `root` is the file."""
    if config.p2p is None:
        yield "there is no p2p block: this machine joins no network. Set p2p.network_token."
    else:
        yield from _control_plane(config.p2p)
        yield from _vpn(config.p2p, root)
        yield from _not_yet(config.p2p)
    if config.kubevip.enable and config.kubevip.eip is None:
        yield "kubevip.enable is true, but there is no elastic IP: kube-vip stays off. Set kubevip.eip."
    if config.k3s_agent.embedded_registry:
        yield "k3s-agent.embedded_registry has no effect: servers share images. Set k3s.embedded_registry."


def _control_plane(p2p: P2P) -> Iterator[str]:
    ha = p2p.auto.ha
    if not p2p.auto.enabled and ha.enabled:
        yield "p2p.auto.ha has no effect, because p2p.auto.enable is false."
        return
    if ha.enable is False and ha.master_nodes:
        yield "p2p.auto.ha.master_nodes has no effect, because p2p.auto.ha.enable is false."
    if ha.enable and ha.master_nodes is None:
        yield (
            "p2p.auto.ha.enable is true without p2p.auto.ha.master_nodes: there will be one master. "
            "Set master_nodes to the number of additional ones, for example 2."
        )
    masters = p2p.auto.ha_masters + 1
    if masters > 1 and masters % 2 == 0 and ha.external_db is None:
        yield (
            f"p2p.auto.ha.master_nodes: {masters - 1} makes {masters} masters; etcd survives no more losses "
            f"than with {masters - 1}. Use an even number of additional masters."
        )


def _vpn(p2p: P2P, root: Node) -> Iterator[str]:
    written = root.at(("p2p", "vpn", "use"))
    if written is not None and written.value and not p2p.vpn.create:
        yield "p2p.vpn.use: true has no effect, because p2p.vpn.create is false."


def _not_yet(p2p: P2P) -> Iterator[str]:
    """Name what the reference has and this version does not: better a sentence than silence."""
    if p2p.dns:
        yield "p2p.dns has no effect: answering DNS is not part of this version."
    if p2p.dynamic_roles:
        yield "p2p.dynamic_roles has no effect: a role stays with its node until `kairos role set` changes it."
