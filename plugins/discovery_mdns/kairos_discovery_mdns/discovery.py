"""Discovery on the local network: announce, look, rotate the names, follow the interfaces."""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
from itertools import chain, repeat

from kairos_core import Beacon, BeaconNames, Discovery, NetworkError, Settings, setting
from kairos_discovery_mdns.lan import Lan, lan_of
from kairos_discovery_mdns.links import LinkWatch, read_links
from kairos_discovery_mdns.responder import Responder

log = logging.getLogger("kairos.discovery.mdns")

EARLY = (0.3, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds between pulses (announce, ask, report) after a start or a change of interfaces.

Each costs about 700 bytes, and an answer of each node not known yet. RFC 6762 asks for doubling intervals.
"""

STEADY = 60.0
"""Seconds between pulses later on: the time after which two halves of a LAN that were apart know each other.

Traffic is two packets (IPv4, IPv6) of 260 bytes per node in this time. Half of `TTL` at most, so no record expires.
"""

WAITING = 2.0
"""Seconds between announcements while the node waits for peers: it was cut off when it started, and nothing tells it
when that is over. Raising it lets the halves of a network meet later; lowering it costs 260 bytes each time and more,
from the waiting nodes only.
"""

OVERLAP = 30.0
"""Seconds for which an old name stays announced after a change, for nodes whose clocks are behind."""

RELOOK = 10.0
"""Seconds between two looks at the interfaces should the kernel's notice be lost. Costs 100 us each."""

SETTLE = 0.2
"""Seconds to wait after a change of interfaces: changes come in bursts."""


class MdnsSettings(Settings):
    """The section `p2p.mdns`."""

    interfaces: list[str] = setting(
        default_factory=list,
        description="Announce on these network interfaces only. Empty: on all that lead to a local network.",
    )


class MdnsDiscovery(Discovery):
    """Finds peers on the local network by multicast DNS (RFC 6762) and service discovery (RFC 6763)."""

    def __init__(self, settings: MdnsSettings | None = None, *, overlap: float = OVERLAP) -> None:
        """Take the settings; `overlap` shortens the time that an old name is kept, for tests."""
        self._interfaces = tuple((settings or MdnsSettings()).interfaces)
        self._overlap = overlap
        self._lan = Lan()
        self._restart = asyncio.Event()

    async def run(self, beacon: Beacon) -> None:
        """Announce this node and look for others until cancelled.

        Raises NetworkError when port 5353 or netlink cannot be used.
        """
        # Neither name says anything of the machine, so an observer of the LAN cannot tell whose node it is.
        responder = Responder(beacon.port, suffix=_random_name(), host=_random_name())
        responder.report(lambda: beacon.names().accept, beacon.found)
        with LinkWatch() as watch:
            try:
                self._lan = self._look()
                await responder.start(self._lan)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._rotate(beacon, responder), name="mdns: rotate names")
                    tasks.create_task(self._follow(watch, responder), name="mdns: follow interfaces")
                    tasks.create_task(self._pulse(responder), name="mdns: pulse")
                    tasks.create_task(self._call(beacon, responder), name="mdns: call")
            finally:
                await responder.close()

    def _look(self) -> Lan:
        lan = lan_of(read_links(), self._interfaces)
        if lan.names:
            log.info("announcing by mDNS on %s", ", ".join(lan.names))
        else:
            wanted = ", ".join(self._interfaces) or "a local network"
            log.warning("no interface for mDNS yet (wanted: %s); waiting for one that is up with an address", wanted)
        return lan

    async def _rotate(self, beacon: Beacon, responder: Responder) -> None:
        known = BeaconNames((), frozenset())
        async with asyncio.TaskGroup() as withdrawals:
            while True:
                names = beacon.names()
                if names == known:
                    await beacon.changed()
                    continue
                await responder.announce(names.announce)
                responder.report_known()
                for name in set(known.announce) - set(names.announce):
                    withdrawals.create_task(self._withdraw(name, beacon, responder), name="mdns: withdraw")
                known = names

    async def _withdraw(self, name: str, beacon: Beacon, responder: Responder) -> None:
        await asyncio.sleep(self._overlap)
        if name not in beacon.names().announce:  # a corrected clock can bring a name back
            await responder.withdraw([name])

    async def _follow(self, watch: LinkWatch, responder: Responder) -> None:
        while True:
            await watch.changed(at_most=RELOOK)
            try:
                if lan_of(read_links(), self._interfaces) == self._lan:
                    continue
                await asyncio.sleep(SETTLE)
                self._lan = await responder.use(self._look())
                self._restart.set()
            except (NetworkError, OSError, RuntimeError) as error:
                log.warning("cannot follow the network interfaces: %s; trying again in %.0f s", error, RELOOK)

    async def _pulse(self, responder: Responder) -> None:
        while True:
            self._restart.clear()
            for delay in chain(EARLY, repeat(STEADY)):
                if await self._is_restarted(delay):
                    break
                responder.repeat()
                if delay != STEADY:
                    await responder.ask()
                responder.report_known()

    async def _call(self, beacon: Beacon, responder: Responder) -> None:
        """While the node waits for others, announce it so that they dial it, and dial those heard of."""
        while True:
            await asyncio.sleep(WAITING)
            if beacon.is_waiting:
                responder.repeat()
                responder.report_known()

    async def _is_restarted(self, delay: float) -> bool:
        try:
            async with asyncio.timeout(delay):
                return await self._restart.wait()
        except TimeoutError:
            return False


def _random_name() -> str:
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()
