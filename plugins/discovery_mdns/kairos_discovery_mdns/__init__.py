"""Kairos discovery on the local network by multicast DNS."""

from kairos_core import Discovery, hookimpl
from kairos_core.hookspecs import Register
from kairos_discovery_mdns.discovery import MdnsDiscovery, MdnsSettings

__all__ = ["MdnsDiscovery", "MdnsSettings", "register_discovery"]


@hookimpl
def register_discovery(register: Register[Discovery]) -> None:
    """Offer the discovery `mdns`."""
    register("mdns", MdnsDiscovery, settings=MdnsSettings, section="p2p.mdns")
