"""The elastic IP as a network: no device of its own, but an endpoint, a node address and manifests."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import IPv4Address

from kairos_core import Attachment, Manifest, Network, NetworkError, NetworkHost
from kairos_net_kubevip.arp import owner_of
from kairos_net_kubevip.interfaces import Interface, carrier_of
from kairos_net_kubevip.manifests import manifests_of
from kairos_net_kubevip.settings import Ip, KubeVipSettings

log = logging.getLogger("kairos.network.kubevip")

TOPIC = "kubevip"
"""Where each node publishes the elastic IP that it is configured with: `{"eip": "192.168.1.110"}`."""


class KubeVip(Network):
    """Keeps the API server reachable under one address of the LAN that moves between masters, by kube-vip."""

    def __init__(self, settings: KubeVipSettings | None = None) -> None:
        self._settings = settings or KubeVipSettings()

    def attach(self, host: NetworkHost) -> AbstractAsyncContextManager[Attachment]:
        """Check the elastic IP and say what the engine needs for it; without one the attachment is empty.

        Raises NetworkError on entry: another host uses the address, the configured interface is missing or
        has no address, or the manifest cannot be fetched.
        """
        return self._attach(host)

    def preview(self) -> Attachment:
        """Say which interface and manifests it would be here; nothing is asked of the LAN, nothing downloaded."""
        settings = self._settings
        if not settings.is_enabled:
            return Attachment()
        try:
            interface, own = carrier_of(settings.addresses[0], settings.interface)
            node_ip = str(own.ip) if own else None
        except NetworkError:  # the interface is configured, and not here: the plan may be of another machine
            interface, node_ip = settings.interface, f"<the address of {settings.interface}>"
        downloaded = f"# from {settings.manifest_url}\n" if settings.manifest_url else None
        manifests = manifests_of(settings, interface, downloaded)
        return Attachment(interface, node_ip, str(settings.addresses[0]), manifests)

    @asynccontextmanager
    async def _attach(self, host: NetworkHost) -> AsyncIterator[Attachment]:
        if not self._settings.is_enabled:
            self._retire(host)
            yield Attachment()
            return
        eip = self._settings.addresses[0]
        interface, own = carrier_of(eip, self._settings.interface)
        await self._claim(host, interface, own)
        manifests = await self._manifests(host, interface)
        # Kubernetes would else take the elastic IP for the node's own address (kube-vip issue 741).
        node_ip = str(own.ip) if own else None
        yield Attachment(interface, node_ip, endpoint=str(eip), manifests=manifests)

    def _retire(self, host: NetworkHost) -> None:
        if self._settings.enable and not self._settings.eip:
            log.warning("kubevip.enable is true, but kubevip.eip is empty: there is no elastic IP to keep")
        if host.identity.peer_id in host.published(TOPIC):
            host.publish(TOPIC, None)

    async def _claim(self, host: NetworkHost, interface: str | None, own: Interface | None) -> None:
        eip = self._settings.addresses[0]
        if own is not None and own.ip == eip:
            raise NetworkError(
                f"kubevip.eip {eip} is the address of this machine's own {interface!r}. "
                "Choose a free address of the LAN, outside the range of its DHCP server"
            )
        text = ",".join(str(ip) for ip in self._settings.addresses)
        claims = {peer: str(value.get("eip"))[:99] for peer, value in host.published(TOPIC).items()}
        for peer, claim in claims.items():
            if claim != text and peer != host.identity.peer_id:
                log.warning("node %s has kubevip.eip %r, this one %r: make them equal", peer.short, claim, text)
        # Once a node of ours has claimed it, whoever answers under the address is our own cluster: it is in
        # use on every restart, and when a further master comes.
        # An address that is routed is nobody's neighbour, so nobody could be asked for it.
        if text not in claims.values() and interface is not None and not self._settings.is_routed:
            for ip in self._settings.addresses:
                await _require_free(ip, interface)
        host.publish(TOPIC, {"eip": text})

    async def _manifests(self, host: NetworkHost, interface: str | None) -> tuple[Manifest, ...]:
        url = self._settings.manifest_url
        if not url:
            return manifests_of(self._settings, interface)
        from kairos_net_kubevip.download import fetch_manifest  # noqa: PLC0415 - an HTTP client, rarely asked for

        return manifests_of(self._settings, interface, await fetch_manifest(url, host.state_directory))


async def _require_free(ip: Ip, interface: str) -> None:
    if not isinstance(ip, IPv4Address):
        return  # IPv6 hosts refuse a duplicate by themselves when kube-vip adds it (RFC 4862, section 5.4)
    owner = await owner_of(ip, interface)
    if owner is not None:
        raise NetworkError(
            f"kubevip.eip {ip} is in use: the host with the MAC address {owner} answers on {interface!r}. "
            "Choose a free address of the LAN, outside the range of its DHCP server, or turn that host off"
        )
