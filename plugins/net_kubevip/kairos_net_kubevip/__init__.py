"""Kairos elastic IP for the control plane, by kube-vip."""

from kairos_core import Network, Register, hookimpl
from kairos_net_kubevip.network import KubeVip
from kairos_net_kubevip.settings import KubeVipSettings

__all__ = ["KubeVip", "KubeVipSettings", "register_network"]


@hookimpl
def register_network(register: Register[Network]) -> None:
    """Offer the network `kubevip`."""
    register("kubevip", KubeVip, settings=KubeVipSettings, section="kubevip")
