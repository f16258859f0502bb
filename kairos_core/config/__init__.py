"""The configuration: cloud-config text in, a frozen `Config` out. Pure."""

from kairos_core.config.blocks import P2P, Auto, Config, Ha, K3s, KubeVip, Plugins, Vpn
from kairos_core.config.hostname import render_hostname
from kairos_core.config.parse import parse_config
from kairos_core.config.schema import config_schema

__all__ = [
    "P2P",
    "Auto",
    "Config",
    "Ha",
    "K3s",
    "KubeVip",
    "Plugins",
    "Vpn",
    "config_schema",
    "parse_config",
    "render_hostname",
]
