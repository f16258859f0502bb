"""Attaching the node to its networks, in order, and again whenever an address is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from kairos_core.errors import KairosError
from kairos_core.interfaces import Network
from kairos_core.model import Attachment
from kairos_core.protocol.otp import Keyring
from kairos_core.runtime.hosts import NodeNetworkHost
from kairos_core.runtime.lan import lan_attachment
from kairos_core.runtime.pump import Pump

logger = logging.getLogger(__name__)

ATTACH_AGAIN = 5.0
"""Seconds until a network that could not be brought up is tried again."""

LOOKED_AT = 8
"""Peers whose routes say by which interface the others are reached. Raising it finds a second one more surely."""


@dataclass
class Attachments:
    """What the networks have given this node so far. `used` leaves out those that Kubernetes shall not use."""

    used: Attachment | None = None
    lan: tuple[str, ...] = ()  # this machine's address in its LAN, once it is known
    address: str | None = None  # for people and tables: in the VPN if there is one
    error: str | None = None
    changed: Callable[[], None] = field(default=lambda: None)


class NetworkRunner:
    """Keeps the networks up until cancelled."""

    def __init__(self, pump: Pump, keyring: Keyring, networks: Sequence[tuple[Network, bool]], state: Path) -> None:
        """`networks` are in order, each with whether Kubernetes uses it."""
        self.attachments = Attachments()
        self._pump, self._keyring, self._networks, self._state = pump, keyring, networks, state

    async def run(self) -> None:
        while True:
            host = NodeNetworkHost(self._pump, self._keyring, self._state)
            try:
                async with AsyncExitStack() as stack:
                    await self._enter(stack, host)
                    await host.guard()
                logger.warning("another node holds our address now: taking a new one")
                self._set(None, None, None)
            except KairosError as error:
                if str(error) != self.attachments.error:
                    logger.error("%s", error)
                self._set(None, None, str(error))
                await asyncio.sleep(ATTACH_AGAIN)
            except Exception as error:  # a plugin's mistake must not end the node
                logger.exception("a network failed")
                self._set(None, None, f"a network failed with {error!r}; see the agent's log")
                await asyncio.sleep(ATTACH_AGAIN)

    async def _enter(self, stack: AsyncExitStack, host: NodeNetworkHost) -> None:
        used, address = Attachment(), None
        for network, is_used in self._networks:
            attachment = await stack.enter_async_context(network.attach(host))
            address = address or attachment.node_ip
            used = used.merged(attachment) if is_used else used
        lan = await self._lan()
        self.attachments.lan = (lan.node_ip,) if lan.node_ip else ()
        if used.interface is None or used.node_ip is None:
            used = used.merged(lan)
        self._set(used, address or lan.node_ip, None)

    async def _lan(self) -> Attachment:
        """Return the attachment to the LAN; waits until there is an address."""
        while True:
            alive = self._pump.gossip.membership.alive()
            lan = lan_attachment(member.address for member in alive[:LOOKED_AT] if member.address is not None)
            if lan.node_ip is not None:
                return lan
            if self.attachments.error is None:
                self._set(None, None, "no interface has a LAN address yet; plug in a cable or start DHCP")
            await asyncio.sleep(1.0)

    def _set(self, used: Attachment | None, address: str | None, error: str | None) -> None:
        self.attachments.used, self.attachments.address, self.attachments.error = used, address, error
        self.attachments.changed()
