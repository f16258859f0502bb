"""Keeps the kernel's routes to networks behind nodes in step with what was chosen, and says what was refused."""

from __future__ import annotations

import logging

from kairos_core import PeerId
from kairos_net_vpn.kernel_routes import KernelRoutes
from kairos_net_vpn.prefixes import Prefix
from kairos_net_vpn.subnets import Choice

_log = logging.getLogger(__name__)


class Routes:
    """The routes of this node to networks behind others. Each news is one log line, not one for each look."""

    def __init__(self, interface: str) -> None:
        self.wanted: frozenset[Prefix] = frozenset()
        self._kernel = KernelRoutes(interface)
        self._carriers: dict[Prefix, PeerId] = {}
        self._refused: dict[tuple[PeerId, Prefix], str] = {}
        self._failed: dict[Prefix, str] = {}

    def follow(self, choice: Choice) -> None:
        """Take what was chosen; the kernel hears of it only when something changed."""
        carriers = {prefix: peer for peer, prefixes in choice.routes.items() for prefix in prefixes}
        for prefix, peer in carriers.items():
            if self._carriers.get(prefix) != peer:
                _log.info("%s is reached through peer %s", prefix, peer)
        for prefix in self._carriers.keys() - carriers.keys():
            _log.info("%s is no longer reached through the VPN", prefix)
        for (peer, prefix), reason in choice.refused.items():
            if self._refused.get((peer, prefix)) != reason:
                _log.info("the route %s of peer %s is not accepted: %s", prefix, peer, reason)
        self._carriers, self._refused = carriers, choice.refused
        if choice.prefixes != self.wanted:
            self.wanted = choice.prefixes
            self.mend()

    def mend(self) -> None:
        """Make the kernel's routes those wanted, whoever changed them since."""
        failed = self._kernel.update(self.wanted)
        for prefix, reason in failed.items():
            if self._failed.get(prefix) != reason:
                _log.warning("cannot route %s into the tunnel: %s", prefix, reason)
        self._failed = failed
