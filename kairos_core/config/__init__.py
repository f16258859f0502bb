"""The configuration: cloud-config text in, a frozen `Config` out. Pure.

Reading and describing it needs pydantic and a YAML parser; holding one needs neither. So those two functions are
imported at their first use.
"""

from typing import TYPE_CHECKING, Any

from kairos_core.config.blocks import P2P, Auto, Config, Ha, K3s, KubeVip, Plugins, Vpn
from kairos_core.config.hostname import render_hostname

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    """Import one of the two at its first use (PEP 562)."""
    if name == "parse_config":
        from kairos_core.config.parse import parse_config  # noqa: PLC0415

        return parse_config
    if name == "config_schema":
        from kairos_core.config.schema import config_schema  # noqa: PLC0415

        return config_schema
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
