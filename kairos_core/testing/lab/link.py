"""The cable of a machine and what can go wrong with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kairos_core.testing.lab.namespaces import Namespaces, must_run

PREFIX4 = "192.168.77"
PREFIX6 = "fd77:7777:7777::"
HUB_HOST = 254


def ipv4_of(host: int) -> str:
    """Return the IPv4 address of the machine with this number (1 to 253)."""
    return f"{PREFIX4}.{host}"


def ipv6_of(host: int) -> str:
    """Return the IPv6 address (unique local, RFC 4193) of the machine with this number."""
    return f"{PREFIX6}{host:x}"


def mac_of(host: int) -> str:
    """Return the hardware address: locally administered (IEEE 802, second bit of the first octet)."""
    return f"02:6b:61:69:72:{host:02x}"


@dataclass(slots=True)
class Link:
    """The Ethernet cable of one machine. Faults hold until they are taken back or the power is cut."""

    host: int
    hub: Namespaces
    _machine: Namespaces | None = None
    _port: str = ""
    _boots: int = 0
    _blocked: frozenset[str] = frozenset()
    _loss: int = field(default=0)

    async def wire(self, machine: Namespaces) -> None:
        """Plug a freshly started machine into the bridge as `eth0`, with all its addresses."""
        self._machine, self._blocked, self._loss = machine, frozenset(), 0
        # A new name each time: the kernel takes a while to remove the port of a machine that lost power.
        self._boots += 1
        self._port = f"v{self.host}.{self._boots}"
        await self._in_hub(
            f"link add {self._port} type veth peer name eth0 address {mac_of(self.host)} netns {machine.pid}",
            f"link set {self._port} master br0 up",
        )
        # Duplicate address detection would cost each machine a second; addresses here are unique by number.
        commands = (
            "link set lo up",
            "link set eth0 addrgenmode none",
            f"address add {ipv4_of(self.host)}/24 brd + dev eth0",
            f"address add {ipv6_of(self.host)}/64 dev eth0 nodad",
            f"address add fe80::{self.host:x}/64 dev eth0 nodad",
            "link set eth0 up",
            f"route add default via {ipv4_of(HUB_HOST)}",
            f"route add default via {ipv6_of(HUB_HOST)}",
        )
        await must_run([*machine.enter("net"), "ip", "-batch", "-"], stdin="\n".join(commands))

    async def down(self) -> None:
        """Pull the cable: the machine keeps its addresses and loses the carrier."""
        await self._in_hub(f"link set {self._port} down")

    async def up(self) -> None:
        """Plug the cable in again."""
        await self._in_hub(f"link set {self._port} up")

    async def loss(self, percent: int) -> None:
        """Lose this share of the frames that arrive at the machine; 0 ends it."""
        self._loss = percent
        await self._filter()

    async def block(self, hosts: Iterable[int]) -> None:
        """Refuse every frame (ARP and multicast too) that comes from these machines, and from no others."""
        self._blocked = frozenset(mac_of(host) for host in hosts)
        await self._filter()

    async def _filter(self) -> None:
        rules = [f"ether saddr {{ {', '.join(sorted(self._blocked))} }} drop"] if self._blocked else []
        rules += [f"numgen random mod 100 < {self._loss} drop"] if self._loss else []
        chain = 'type filter hook ingress device "eth0" priority 0; policy accept;'
        # Declaring the table first lets the delete succeed when there was none; nft applies a file as one change.
        ruleset = f"table netdev lab\ndelete table netdev lab\ntable netdev lab {{ chain cable {{ {chain}\n"
        assert self._machine is not None, "the machine was never switched on"
        await must_run(
            [*self._machine.enter("net"), "nft", "-f", "-"], stdin=ruleset + "\n".join([*rules, "}", "}", ""])
        )

    async def _in_hub(self, *commands: str) -> None:
        await must_run([*self.hub.enter("net"), "ip", "-batch", "-"], stdin="\n".join(commands))
