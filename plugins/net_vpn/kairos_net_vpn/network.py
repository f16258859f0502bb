"""The network `vpn`: holds an address, says where this node is reached, keeps the data plane informed."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface
from typing import Any

from kairos_core import Attachment, Finding, Network, NetworkError, NetworkHost, PeerId
from kairos_net_vpn import examination, guests, succession
from kairos_net_vpn.desk import Desk, Here
from kairos_net_vpn.device import TunDevice, open_udp
from kairos_net_vpn.diagnosis import WINDOW, Condition, diagnose
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.forwarding import prepare
from kairos_net_vpn.guests import Admission
from kairos_net_vpn.lan import Lan, interface_of, is_up, read_lan
from kairos_net_vpn.messages import Configure
from kairos_net_vpn.moves import AddressChanges
from kairos_net_vpn.offloads import Offloads
from kairos_net_vpn.report import Reading, report
from kairos_net_vpn.roster import RECORDS, TOPIC, Policy, View, make_roster
from kairos_net_vpn.routes import Routes
from kairos_net_vpn.settings import VpnSettings, inner_mtu
from kairos_net_vpn.spec import Timing
from kairos_net_vpn.succession import Heritage
from kairos_net_vpn.supervisor import Supervisor
from kairos_net_vpn.ula import PURPOSE, ula_address, ula_subnet

_PSK = "vpn psk"
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
        self._member: _Member | None = None

    def state(self) -> Mapping[str, Any]:
        """Say how this end and its peers do; nothing while it is not attached."""
        return self._member.state() if self._member is not None else {}

    async def order(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Admit a stock WireGuard peer or let it go; see `Desk`. Raises NetworkError."""
        if self._member is None:
            raise NetworkError("the VPN is not up on this node. See why with: kairos status")
        return await self._member.desk.order(order)

    def preview(self) -> Attachment:
        settings = self._settings
        if not (settings.create and settings.use):
            return Attachment()
        wanted = settings.wanted
        return Attachment(settings.interface, str(wanted) if wanted else f"<an address of {settings.pool}>")

    def examine(self) -> Sequence[Finding]:
        if self._member is not None:
            return tuple(self._member.examine())
        lan = read_lan(self._settings.interface)
        findings = list(examination.examine(self._settings, lan))
        if self._settings.create:
            try:
                _require_free_pool(self._settings, lan)
            except NetworkError as error:
                findings.append(examination.overlap(error))
        return findings

    def attach(self, host: NetworkHost) -> AbstractAsyncContextManager[Attachment]:
        """Bring the tunnel up on entry and take it down on exit. Raises NetworkError on entry."""
        return self._attach(host)

    @asynccontextmanager
    async def _attach(self, host: NetworkHost) -> AsyncIterator[Attachment]:
        settings = self._settings
        await succession.dismiss_others(host.state_directory, settings.interface if settings.create else "")
        if not settings.create:
            yield Attachment()
            return
        lan = read_lan(settings.interface)
        _require_free_pool(settings, lan)
        address = await self._lease(host)
        _require_free_address(settings, address)
        device = self._device(host, address, lan)
        prepare(settings.routes, switch_on=settings.forward)
        configure = self._configuration(host, device, lan)
        heritage = await succession.claim(host.state_directory, configure)
        if heritage is not None:
            device.adopt(heritage.tun)
        with _sockets(host, settings, heritage) as (udp, door):
            supervisor = Supervisor(configure, udp, device, _counter(host), door=door)
            port = udp.getsockname()[1]
            member = _Member(host, settings, supervisor, device, port=port, lan=lan, timing=self._timing)
            try:
                await supervisor.start(heritage)
                async with member.working():
                    self._member = member
                    yield Attachment(settings.interface, str(address)) if settings.use else Attachment()
            finally:
                self._member = None
                await supervisor.close()
                device.close()
                succession.remove_door(host.state_directory, settings.interface)

    async def _lease(self, host: NetworkHost) -> IPv4Address:
        settings = self._settings
        try:
            address = await host.lease(settings.pool, settings.wanted)
        except NetworkError as error:
            if settings.wanted is None or not settings.leases:
                raise
            _log.warning("taking another address, as env.DHCP allows: %s", error)
            return await host.lease(settings.pool)
        if settings.wanted is not None and not settings.leases and address != settings.wanted:
            holder = host.leases(settings.pool).get(settings.wanted)
            raise NetworkError(
                f"the VPN address {settings.wanted} is held by {holder or 'another node'}. "
                'Set another one in p2p.vpn.env.ADDRESS, or take any free one with env.DHCP: "true".'
            )
        return address

    def _device(self, host: NetworkHost, address: IPv4Address, lan: Lan) -> TunDevice:
        settings, ipv6 = self._settings, None
        if settings.ipv6:
            subnet = ula_subnet(host.secret(PURPOSE))
            ipv6 = IPv6Interface((ula_address(subnet, address), subnet.prefixlen))
        ipv4 = IPv4Interface((address, settings.pool.prefixlen))
        return TunDevice(settings.interface, ipv4, inner_mtu(lan.mtu, settings.mtu), ipv6, vnet=self._allowed.vnet)

    def _configuration(self, host: NetworkHost, device: TunDevice, lan: Lan) -> Configure:
        return Configure(
            private_key=host.identity.exchange_key("vpn").private_bytes_raw(),
            psk=host.secret(_PSK),
            address=str(device.address.ip),
            subnet=str(self._settings.pool),
            mtu=inner_mtu(lan.mtu, self._settings.mtu),
            ipv6=str(device.ipv6 or ""),
            routes=tuple(map(str, self._settings.routes)),
            timing=self._timing,
            allowed=self._allowed,
            interface=self._settings.interface,
            port=self._settings.port,
        )


class _Member:
    """This node's part in the VPN while it is attached: what it says of itself, and what it hears of the
    others."""

    def __init__(  # noqa: PLR0913 - put together once, in _attach
        self,
        host: NetworkHost,
        settings: VpnSettings,
        supervisor: Supervisor,
        device: TunDevice,
        *,
        port: int,
        lan: Lan,
        timing: Timing,
    ) -> None:
        self._host = host
        self._settings = settings
        self._policy = Policy(settings.accept_routes, settings.router, settings.routes)
        self._supervisor = supervisor
        self._device = device
        self._routes = Routes(device.name)
        self._port = port
        self._lan = lan
        self._key = host.identity.exchange_key("vpn").public_key().public_bytes_raw()
        self._timing = timing
        self._unusable: frozenset[PeerId] = frozenset()
        self._guests: Mapping[bytes, Admission] = {}
        mtu = inner_mtu(lan.mtu, settings.mtu)
        ula = device.ipv6.network if device.ipv6 is not None else None
        self._here = Here(device.name, device.address.ip, settings.pool, port, mtu, host.secret(_PSK), ula)
        self.desk = Desk(host, self._here)
        self._seen: tuple[str, ...] = ()
        self._awaited: dict[bytes, float] = {}  # nodes that live, since when
        self._counts: deque[tuple[float, Mapping[str, int]]] = deque()  # drops over the last minute

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
            # The key stays: it is this node's for ever. Without a port nobody knocks any more. The port is kept for the
            # next start: guests have it in their files.
            self._host.publish(TOPIC, {"key": self._key, "last_port": self._port})

    def _publish(self) -> None:
        reached = {"port": self._port, "address": str(self._device.address.ip), "hosts": list(self._lan.hosts)}
        offered = {"ipv6": self._device.ipv6 is not None, "routes": list(map(str, self._settings.routes))}
        self._host.publish(
            TOPIC, {"key": self._key, "records": RECORDS, **reached, **offered, "seen": list(self._seen)}
        )

    async def _follow(self) -> None:
        changes = self._host.changes()
        self._refresh()
        async for _ in changes:
            self._refresh()

    async def _keep_up(self) -> None:
        while True:
            await self._moves.wait(UPKEEP)
            before, self._lan = self._lan, read_lan(self._device.name)
            if self._lan.hosts != before.hosts:
                self._supervisor.has_moved()
                self._publish()
            stats = await self._supervisor.stats()
            if stats is not None:
                self._is_seen(stats.seen)
                self._remember(stats.drops)
            self._routes.mend()
            self._refresh()

    def _is_seen(self, at: tuple[str, ...]) -> None:
        """Publish where others see this node, unless it knows of these addresses itself: it is behind a NAT then."""
        seen = tuple(text for text in at if text.rpartition(":")[0].strip("[]") not in self._lan.hosts)
        if seen != self._seen:
            self._seen = seen
            self._publish()

    def _remember(self, drops: Mapping[str, int]) -> None:
        now = asyncio.get_running_loop().time()
        self._counts.append((now, drops))
        while self._counts[0][0] < now - WINDOW:
            self._counts.popleft()

    def _refresh(self) -> None:
        host = self._host
        view = View(
            me=host.identity.peer_id,
            own_key=self._key,
            own_hosts=frozenset(self._lan.hosts),
            pool=self._settings.pool,
            entries=host.published(TOPIC),
            links=host.links(),
            leases=host.leases(self._settings.pool),
            ula=self._device.ipv6.network if self._device.ipv6 is not None else None,
            policy=self._policy,
            networks=self._lan.networks,
            routed=self._routes.wanted,
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
        self._routes.follow(roster.choice)
        now = asyncio.get_running_loop().time()
        self._awaited = {key: self._awaited.get(key, now) for key, peer in roster.peers.items() if peer.eager}

    def state(self) -> dict[str, Any]:
        """Say how this end and its peers do, in JSON types."""
        supervisor = self._supervisor
        age = asyncio.get_running_loop().time() - supervisor.last_at
        reading = Reading(supervisor.peers, supervisor.last, age, self._timing)
        return report(self._host, self._here, self._guests, reading)

    def examine(self) -> Iterator[Finding]:
        """Say what is right and wrong."""
        supervisor, now = self._supervisor, asyncio.get_running_loop().time()
        drops = Counter(self._counts[-1][1] if self._counts else {})
        drops.subtract(self._counts[0][1] if self._counts else {})
        condition = Condition(
            report=self.state(),
            is_up=is_up(self._device.name),
            age=now - supervisor.last_at if supervisor.last is not None else None,
            awaited={key: now - since for key, since in self._awaited.items()},
            drops=drops,
        )
        yield from diagnose(condition)


async def _persist(what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do background work for as long as the node is attached: a fault in it must not freeze the network."""
    while True:
        try:
            await work()
        except Exception:
            _log.exception("%s of the VPN failed; trying again in 1 s", what)
        await asyncio.sleep(1)


def _require_free_pool(settings: VpnSettings, lan: Lan) -> None:
    """Refuse a pool that this machine's own networks overlap: part of either could not be reached."""
    for network in lan.networks:
        if network.prefix.version == 4 and network.prefix.overlaps(settings.pool):
            raise NetworkError(
                f"the VPN's addresses {settings.pool} overlap the network {network}, so one would hide the other. "
                "Set another p2p.vpn.subnet, the same on all nodes."
            )


def _require_free_address(settings: VpnSettings, address: IPv4Address) -> None:
    interface = interface_of(address, settings.interface)
    if interface is not None:
        raise NetworkError(
            f"the VPN address {address} is on {interface} of this machine already. Remove it there, or set another "
            "one in p2p.vpn.env.ADDRESS."
        )


@contextmanager
def _sockets(
    host: NetworkHost, settings: VpnSettings, heritage: Heritage | None
) -> Iterator[tuple[socket.socket, socket.socket | None]]:
    """Give the data plane's UDP socket and its door, inherited or new. Raises NetworkError."""
    if heritage is not None:
        with heritage.udp, heritage.door:
            yield heritage.udp, heritage.door
        return
    with open_udp(settings.port, _remembered_port(host)) as udp:
        door = succession.open_door(host.state_directory, settings.interface)
        with door or nullcontext():
            yield udp, door


def _remembered_port(host: NetworkHost) -> int:
    """Return the port this node had when it last ran, so that peers find it where it was."""
    said = host.published(TOPIC).get(host.identity.peer_id, {})
    port = said.get("port", said.get("last_port"))
    return port if type(port) is int and 0 < port < 65536 else 0


def _counter(host: NetworkHost) -> Callable[[str, int], None]:
    return lambda drop, count: host.dropped(f"vpn_{drop}", count)
