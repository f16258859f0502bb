"""The network `vpn`: holds an address, says where this node is reached, keeps the data plane informed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from kairos_core import Attachment, Network, NetworkError, NetworkHost, PeerId
from kairos_net_vpn import guests
from kairos_net_vpn.desk import Desk, Here, describe, figures, names_of
from kairos_net_vpn.device import TunDevice, open_udp
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.guests import Admission
from kairos_net_vpn.lan import Lan, read_lan
from kairos_net_vpn.messages import Configure
from kairos_net_vpn.roster import TOPIC, View, make_roster
from kairos_net_vpn.settings import VpnSettings, inner_mtu
from kairos_net_vpn.spec import Timing
from kairos_net_vpn.supervisor import Supervisor

_PSK = "vpn psk"
UPKEEP = 5.0
"""Seconds between two looks at the counters and at this machine's own addresses. Lowering it notices a new
address sooner and costs about 1 ms each time."""

_log = logging.getLogger(__name__)


class Vpn(Network):
    """An encrypted network between the nodes, with an address of its own for each."""

    def __init__(self, settings: VpnSettings | None = None, *, timing: Timing | None = None) -> None:
        self._settings = settings or VpnSettings()
        self._timing = timing or Timing()
        self._member: _Member | None = None

    def state(self) -> Mapping[str, Any]:
        """Say how this end and its peers do; nothing while it is not attached."""
        return self._member.state() if self._member is not None else {}

    async def order(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Admit a stock WireGuard peer or let it go; see `Desk`. Raises NetworkError."""
        if self._member is None:
            raise NetworkError("the VPN is not up on this node. See why with: kairos status")
        return await self._member.desk.order(order)

    def attach(self, host: NetworkHost) -> AbstractAsyncContextManager[Attachment]:
        """Bring the tunnel up on entry and take it down on exit. Raises NetworkError on entry."""
        return self._attach(host)

    @asynccontextmanager
    async def _attach(self, host: NetworkHost) -> AsyncIterator[Attachment]:
        settings = self._settings
        if not settings.create:
            yield Attachment()
            return
        address = await self._lease(host)
        lan = read_lan(settings.interface)
        inner = IPv4Interface(f"{address}/{settings.pool.prefixlen}")
        device = TunDevice(settings.interface, inner, inner_mtu(lan.mtu, settings.mtu))
        with open_udp(settings.port, _remembered_port(host)) as udp:
            supervisor = Supervisor(self._configuration(host, address, lan), udp, device, _counter(host))
            member = _Member(
                host, settings, supervisor, address, port=udp.getsockname()[1], lan=lan, timing=self._timing
            )
            try:
                await supervisor.start()
                async with member.working():
                    self._member = member
                    yield Attachment(settings.interface, str(address)) if settings.use else Attachment()
            finally:
                self._member = None
                await supervisor.close()
                device.close()

    async def _lease(self, host: NetworkHost) -> IPv4Address:
        settings = self._settings
        address = await host.lease(settings.pool, settings.wanted)
        if settings.wanted is not None and not settings.leases and address != settings.wanted:
            holder = host.leases(settings.pool).get(settings.wanted)
            raise NetworkError(
                f"the VPN address {settings.wanted} is held by {holder or 'another node'}. "
                'Set another one in p2p.vpn.env.ADDRESS, or take any free one with env.DHCP: "true".'
            )
        return address

    def _configuration(self, host: NetworkHost, address: IPv4Address, lan: Lan) -> Configure:
        return Configure(
            private_key=host.identity.exchange_key("vpn").private_bytes_raw(),
            psk=host.secret(_PSK),
            address=str(address),
            subnet=str(self._settings.pool),
            mtu=inner_mtu(lan.mtu, self._settings.mtu),
            timing=self._timing,
        )


class _Member:
    """This node's part in the VPN while it is attached: what it says of itself, and what it hears of the
    others."""

    def __init__(  # noqa: PLR0913 - put together once, in _attach
        self,
        host: NetworkHost,
        settings: VpnSettings,
        supervisor: Supervisor,
        address: IPv4Address,
        *,
        port: int,
        lan: Lan,
        timing: Timing,
    ) -> None:
        self._host = host
        self._pool = settings.pool
        self._interface = settings.interface
        self._supervisor = supervisor
        self._address = address
        self._port = port
        self._lan = lan
        self._key = host.identity.exchange_key("vpn").public_key().public_bytes_raw()
        self._mtu = inner_mtu(lan.mtu, settings.mtu)
        self._timing = timing
        self._unusable: frozenset[PeerId] = frozenset()
        self._guests: Mapping[bytes, Admission] = {}
        self.desk = Desk(host, Here(settings.interface, address, settings.pool, port, self._mtu, host.secret(_PSK)))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Publish and follow the ledger meanwhile; at the end take back where this node is reached."""
        tasks = [
            asyncio.create_task(_persist("following the ledger", self._follow)),
            asyncio.create_task(_persist("upkeep", self._keep_up)),
        ]
        self._publish()
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            # The key stays: it is this node's for ever. Without a port nobody knocks any more.
            self._host.publish(TOPIC, {"key": self._key})

    def _publish(self) -> None:
        reached = {"port": self._port, "address": str(self._address), "hosts": list(self._lan.hosts)}
        self._host.publish(TOPIC, {"key": self._key, **reached})

    async def _follow(self) -> None:
        changes = self._host.changes()
        self._refresh()
        async for _ in changes:
            self._refresh()

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP)
            await self._supervisor.stats()
            lan = read_lan(self._interface)
            if lan.hosts != self._lan.hosts:
                self._lan = lan
                self._publish()
            self._refresh()

    def _refresh(self) -> None:
        host = self._host
        view = View(
            me=host.identity.peer_id,
            own_key=self._key,
            own_hosts=frozenset(self._lan.hosts),
            pool=self._pool,
            entries=host.published(TOPIC),
            links=host.links(),
            leases=host.leases(self._pool),
        )
        nodes = [value.get("key") for value in view.entries.values()]
        self._guests, no_entries = guests.admit(host.published(guests.TOPIC), view.leases, nodes)
        roster = make_roster(guests.introduce(view, self._guests))
        unusable = roster.unusable | no_entries
        for peer in sorted(unusable - self._unusable):
            _log.warning("peer %s published something that is not a VPN entry", peer)
            host.dropped(f"vpn_{VpnDrop.BAD_TOPIC}")
        self._unusable = unusable
        self._supervisor.set_peers(guests.furnish(roster.peers, self._guests, host.secret(_PSK)))

    def state(self) -> dict[str, Any]:
        """Say how this end and its peers do, in JSON types."""
        stats, timing = self._supervisor.last, self._timing
        age = asyncio.get_running_loop().time() - self._supervisor.last_at
        found = {each.key: each for each in stats.peers} if stats else {}
        members = [
            {**self._who(key), **describe(peer, found.get(key), age, timing)}
            for key, peer in self._supervisor.peers.items()
        ]
        here = {"interface": self._interface, "address": str(self._address), "port": self._port, "mtu": self._mtu}
        drops = dict(stats.drops) if stats else {}
        return {**here, **figures(stats, timing), "drops": drops, "members": sorted(members, key=_by_name)}

    def _who(self, key: bytes) -> dict[str, Any]:
        if key in self._guests:
            admission = self._guests[key]
            return {"name": admission.name, "kind": "guest", "peer": None, "admitted_by": str(admission.by)}
        for peer, entry in self._host.published(TOPIC).items():
            if entry.get("key") == key:
                name = names_of(self._host).get(peer) or peer.short
                return {"name": name, "kind": "node", "peer": str(peer), "admitted_by": None}
        return {"name": "", "kind": "node", "peer": None, "admitted_by": None}


def _by_name(member: Mapping[str, Any]) -> tuple[str, str]:
    return member["name"], member["key"]


async def _persist(what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do background work for as long as the node is attached: a fault in it must not freeze the network."""
    while True:
        try:
            await work()
        except Exception:
            _log.exception("%s of the VPN failed; trying again in 1 s", what)
        await asyncio.sleep(1)


def _remembered_port(host: NetworkHost) -> int:
    """Return the port this node said it had before it was killed, so that peers find it where it was."""
    port = host.published(TOPIC).get(host.identity.peer_id, {}).get("port")
    return port if type(port) is int and 0 < port < 65536 else 0


def _counter(host: NetworkHost) -> Callable[[str, int], None]:
    return lambda drop, count: host.dropped(f"vpn_{drop}", count)
