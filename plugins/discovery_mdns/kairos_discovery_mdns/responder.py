"""The sockets, announcements and cache of multicast DNS, by zeroconf.

What makes it fast: our instance names are random, so the 1.2 s of probing for a name already in use is left
out; questions are asked again soon, since the first packets of a network that is coming up are often lost.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable
from itertools import islice

from zeroconf import DNSQuestionType, Error, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from kairos_core import Address, NetworkError
from kairos_discovery_mdns.instance import SERVICE_TYPE, addresses_of, instance_name, rendezvous_of
from kairos_discovery_mdns.lan import Lan

log = logging.getLogger("kairos.discovery.mdns")

TTL = 120
"""Seconds for which others keep our records without hearing from us (RFC 6762, section 10).

Raising it lets a crashed node be reported longer; lowering it below twice the pulse makes others ask for us.
"""

MAX_REPORTED = 1024
"""Instances reported in one pass. A host that floods the network with forged ones costs us no more."""

MAX_RESOLVING = 32
"""Instances whose addresses are being asked for at once; more are left to the next pulse."""

_MDNS_PORT = 5353  # RFC 6762, section 2
_PTR, _IN = 12, 1  # RFC 1035, sections 3.2.2 and 3.2.4


class Responder:
    """Announces our instances on the LAN and reports those of others."""

    def __init__(self, port: int, suffix: str, host: str) -> None:
        """Announce `port` under instance names that end in `suffix`, at the random host name `host`."""
        self._port, self._suffix, self._host = port, suffix, host
        self._ours: dict[str, AsyncServiceInfo] = {}
        self._lan = Lan()
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._accept: Callable[[], frozenset[str]] = frozenset
        self._found: Callable[[Address], None] = lambda address: None

    def report(self, accept: Callable[[], frozenset[str]], found: Callable[[Address], None]) -> None:
        """Tell `found` of peers that announce one of the names that `accept` returns."""
        self._accept, self._found = accept, found

    async def start(self, lan: Lan) -> None:
        """Open the sockets and look for others. Raises NetworkError."""
        version = IPVersion.All if _has_ipv6() else IPVersion.V4Only
        try:
            _check_port(socket.AF_INET6 if version is IPVersion.All else socket.AF_INET)
            self._zeroconf = AsyncZeroconf(interfaces=list(lan.sources), ip_version=version)
            await self._zeroconf.zeroconf.async_wait_for_start()
        except (OSError, RuntimeError, Error) as error:
            raise _refused(error) from error
        self._lan = lan
        self._browse()

    @property
    def _engine(self) -> Zeroconf:
        assert self._zeroconf is not None, "the responder is used before start"
        return self._zeroconf.zeroconf

    async def use(self, lan: Lan) -> Lan:
        """Follow the interfaces of this machine; takes half a second in which announcements are repeated."""
        self._lan = lan
        for info in self._ours.values():
            info.addresses = _packed(lan)
            self._engine.registry.async_update(info)
        await self._engine.async_update_interfaces(interfaces=list(lan.sources))
        return lan

    async def announce(self, rendezvous: Iterable[str]) -> None:
        """Announce these names too; takes half a second in which the announcement is repeated."""
        names = {instance_name(name, self._suffix) for name in rendezvous} - set(self._ours)
        infos = [self._info(name) for name in names]
        self._ours |= {info.name: info for info in infos}
        # "Cooperating" means: do not probe for conflicts. Ours is the only node with this random suffix.
        started = [await self._engine.async_register_service(info, cooperating_responders=True) for info in infos]
        await asyncio.gather(*started)

    async def withdraw(self, rendezvous: Iterable[str]) -> None:
        """Say goodbye under these names (RFC 6762, section 10.1)."""
        names = {instance_name(name, self._suffix) for name in rendezvous}
        infos = [self._ours.pop(name) for name in names & set(self._ours)]
        await asyncio.gather(*[await self._engine.async_unregister_service(info) for info in infos])

    def _info(self, name: str) -> AsyncServiceInfo:
        return AsyncServiceInfo(
            SERVICE_TYPE,
            name,
            port=self._port,
            properties={"v": "1"},
            server=f"{self._host}.local.",
            host_ttl=TTL,
            other_ttl=TTL,
            addresses=_packed(self._lan),
        )

    def repeat(self) -> None:
        """Send all announcements once more."""
        for info in self._ours.values():
            self._engine.async_send(self._engine.generate_service_broadcast(info, None))

    async def ask(self) -> None:
        """Ask again who is there; who is known already need not answer (RFC 6762, section 7.1)."""
        if self._browser is not None:
            await self._browser.async_cancel()
        # By multicast: with two nodes on one machine, a unicast answer reaches either of them.
        self._browse(DNSQuestionType.QM)

    def _browse(self, question: DNSQuestionType | None = None) -> None:
        self._browser = AsyncServiceBrowser(
            self._engine, SERVICE_TYPE, handlers=[self._changed], question_type=question
        )

    def report_known(self) -> None:
        """Report all peers heard of and not expired: names change, and nodes forget."""
        accept, pointers = self._accept(), self._engine.cache.async_all_by_details(SERVICE_TYPE, _PTR, _IN)
        names = (str(getattr(pointer, "alias", "")) for pointer in pointers)
        for name in islice((name for name in names if self._is_wanted(name, accept)), MAX_REPORTED):
            self._report(name)

    def _is_wanted(self, name: str, accept: frozenset[str]) -> bool:
        return rendezvous_of(name) in accept and name.lower() not in self._ours

    # zeroconf passes these by name
    def _changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is not ServiceStateChange.Removed and self._is_wanted(name, self._accept()):
            self._report(name)

    def _report(self, name: str) -> None:
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        if info.load_from_cache(self._engine):
            self._tell(info)
        elif name not in self._resolving and len(self._resolving) < MAX_RESOLVING:
            task = asyncio.create_task(self._resolve(info), name=f"mdns: resolve {name}")
            self._resolving[name] = task
            task.add_done_callback(lambda _: self._resolving.pop(name, None))

    async def _resolve(self, info: AsyncServiceInfo) -> None:
        if await info.async_request(self._engine, timeout=3000):
            self._tell(info)

    def _tell(self, info: AsyncServiceInfo) -> None:
        links = dict(socket.if_nameindex())
        for address in addresses_of(info.port, info.parsed_scoped_addresses(), links):
            self._found(address)

    async def close(self) -> None:
        """Say goodbye and close the sockets; takes a quarter of a second."""
        if self._zeroconf is None:
            return
        for task in list(self._resolving.values()):
            task.cancel()
        await asyncio.gather(*self._resolving.values(), return_exceptions=True)
        if self._browser is not None:
            await self._browser.async_cancel()
        await self._zeroconf.async_close()


def _packed(lan: Lan) -> list[bytes]:
    return [
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in lan.addresses
    ]


def _has_ipv6() -> bool:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True


def _check_port(family: socket.AddressFamily) -> None:
    # zeroconf would leave its socket open when it cannot bind it.
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(("", _MDNS_PORT))


def _refused(error: Exception) -> NetworkError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return NetworkError(
            "cannot announce this node by mDNS: another program holds UDP port 5353 for itself. "
            "If it is avahi, set disallow-other-stacks=no in /etc/avahi/avahi-daemon.conf; "
            "or list the nodes under p2p.peers"
        )
    return NetworkError(
        f"cannot announce this node by mDNS: {error}. Nodes can also be listed under p2p.peers as host:port"
    )
