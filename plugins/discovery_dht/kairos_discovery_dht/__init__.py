"""Kairos discovery across networks by a distributed hash table: not yet. It refuses to load and says so.

Refusing at import, before any hook, keeps a node from running with a discovery that would find nobody.
"""

from kairos_core import PluginError

raise PluginError(
    "discovery by DHT is not part of this version; nodes find each other on the LAN by mDNS, and elsewhere "
    "by p2p.peers: list host:port of one or more nodes there"
)
