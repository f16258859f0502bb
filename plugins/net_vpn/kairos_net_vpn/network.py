"""The network `vpn`: holds an address, says where this node is reached, keeps the data plane informed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import IPv4Address, IPv4Interface

from kairos_core import Attachment, Network, NetworkError, NetworkHost, PeerId
from kairos_net_vpn.device import TunDevice, open_udp
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.lan import Lan, read_lan
from kairos_net_vpn.messages import Configure
from kairos_net_vpn.moves import AddressChanges
from kairos_net_vpn.offloads import Offloads
from kairos_net_vpn.roster import RECORDS, TOPIC, View, make_roster
from kairos_net_vpn.settings import VpnSettings, inner_mtu
from kairos_net_vpn.spec import Timing
from kairos_net_vpn.supervisor import Supervisor

UPKEEP = 5.0
"""Seconds between two looks at the counters, and at this machine's own addresses where the kernel does not tell when
they change. Lowering it costs about 1 ms each time."""

_log = logging.getLogger(__name__)


class Vpn(Network):
    """An encrypted network between the nodes, with an address of its own for each."""

    def __init__(
        self, settings: VpnSettings | None = None, *, timing: Timing | None = None, allowed: Offloads | None = None
    ) -> None:
        self._settings = settings or VpnSettings()
        self._timing = timing or Timing()
        self._allowed = allowed or Offloads()

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
        device = TunDevice(settings.interface, inner, inner_mtu(lan.mtu, settings.mtu), vnet=self._allowed.vnet)
        with open_udp(settings.port, _remembered_port(host)) as udp:
            supervisor = Supervisor(self._configuration(host, address, lan), udp, device, _counter(host))
            member = _Member(host, settings, supervisor, address, port=udp.getsockname()[1], lan=lan)
            try:
                await supervisor.start()
                async with member.working():
                    yield Attachment(settings.interface, str(address)) if settings.use else Attachment()
            finally:
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
            psk=host.secret("vpn psk"),
            address=str(address),
            subnet=str(self._settings.pool),
            mtu=inner_mtu(lan.mtu, self._settings.mtu),
            timing=self._timing,
            allowed=self._allowed,
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
    ) -> None:
        self._host = host
        self._pool = settings.pool
        self._interface = settings.interface
        self._supervisor = supervisor
        self._address = address
        self._port = port
        self._lan = lan
        self._key = host.identity.exchange_key("vpn").public_key().public_bytes_raw()
        self._unusable: frozenset[PeerId] = frozenset()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Publish and follow the ledger meanwhile; at the end take back where this node is reached."""
        self._moves = AddressChanges()
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
            self._moves.close()
            # The key stays: it is this node's for ever. Without a port nobody knocks any more.
            self._host.publish(TOPIC, {"key": self._key})

    def _publish(self) -> None:
        reached = {
            "records": RECORDS,
            "port": self._port,
            "address": str(self._address),
            "hosts": list(self._lan.hosts),
        }
        self._host.publish(TOPIC, {"key": self._key, **reached})

    async def _follow(self) -> None:
        changes = self._host.changes()
        self._refresh()
        async for _ in changes:
            self._refresh()

    async def _keep_up(self) -> None:
        while True:
            await self._moves.wait(UPKEEP)
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
        roster = make_roster(view)
        for peer in sorted(roster.unusable - self._unusable):
            _log.warning("peer %s published something that is not a VPN entry", peer)
            host.dropped(f"vpn_{VpnDrop.BAD_TOPIC}")
        self._unusable = roster.unusable
        self._supervisor.set_peers(roster.peers)


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
