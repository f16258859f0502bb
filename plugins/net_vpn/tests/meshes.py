"""Nodes with the real packet path, on a wire in memory, and the walls between them; for tests of ways to peers."""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Any

from kairos_net_vpn.carriage import Carriage
from kairos_net_vpn.datagrams import UDP_SEGMENT
from kairos_net_vpn.drops import VpnDrop
from kairos_net_vpn.inbound import Inbound
from kairos_net_vpn.offloads import Offloads
from kairos_net_vpn.outbound import Outbound
from kairos_net_vpn.tun import Tun

ALL = Offloads()


class Port:
    """A UDP socket of a node on the wire: as far as the underlay uses one."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.waiting: deque[tuple[bytes, Any]] = deque()
        self.unfragmented = False

    def getsockopt(self, level: int, option: int) -> int:
        return 0

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if level == socket.IPPROTO_IP:
            self.unfragmented = value == 3

    def sendto(self, datagram: Any, endpoint: Any) -> None:
        self.sendmsg((datagram,), (), 0, endpoint)

    def sendmsg(self, buffers: Any, ancillary: Any, flags: int, endpoint: Any) -> None:
        data = b"".join(buffers)
        sizes = [struct.unpack("=H", value)[0] for _, kind, value in ancillary if kind == UDP_SEGMENT]
        for at in range(0, len(data), sizes[0] if sizes else max(1, len(data))):
            datagram = data[at : at + sizes[0]] if sizes else data
            if not self.unfragmented or len(datagram) + 28 <= self.node.wire.mtu:
                self.node.wire.carry(self.node, datagram, endpoint)

    def recvmsg_into(self, buffers: Any, ancillary: int) -> tuple[int, list[Any], int, Any]:
        if not self.waiting:
            raise BlockingIOError
        datagram, source = self.waiting.popleft()
        left = memoryview(datagram)
        for buffer in buffers:
            part = left[: len(buffer)]
            buffer[: len(part)] = part
            left = left[len(part) :]
        return len(datagram), [], 0, source


class Host:
    """The data plane of a node without its loop: a socket pair for a TUN device, a Port for a socket."""

    def __init__(self, node: Any) -> None:
        self.node, self.port = node, Port(node)
        self.build()
        node.receive, node.flush = self.receive, self.flush

    def build(self) -> None:
        tunnel = self.node.tunnel
        self.reader, self.writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (self.reader, self.writer):
            each.setblocking(False)
        self.tun = Tun(self.writer.fileno(), ALL, tunnel.drops)
        self.carriage = Carriage(self.port, ALL, tunnel, lambda: self.node.wire.now)  # type: ignore[arg-type]
        self.outbound = Outbound(tunnel, self.tun, self.carriage)
        self.inbound = Inbound(tunnel, self.tun, self.carriage, self.outbound)

    def receive(self, datagram: bytes, source: Any) -> None:
        self.port.waiting.append((datagram, source))
        self.inbound.read(self.node.wire.now)
        self.flush()

    def flush(self) -> None:
        self.carriage.flush(self.node.tunnel.take_outbox())

    def say(self, other: Host, packet: bytes) -> None:
        self.outbound._send_small([memoryview(bytearray(bytes(10) + packet))], self.node.wire.now)
        self.flush()

    def heard(self) -> int:
        """Return how many packets have come since the last call."""
        count = 0
        while True:
            try:
                count += bool(self.reader.recv(1 << 16))
            except BlockingIOError:
                return count

    def way_to(self, other: Host) -> Any:
        return self.node.knows(other.node).endpoint

    def drops(self, name: VpnDrop) -> int:
        return int(self.node.tunnel.drops[name])


class Mesh:
    """Hosts that know each other, and the pairs that a firewall keeps apart."""

    def __init__(self, wire: Any, packet: Any, count: int) -> None:
        self.wire, self._packet = wire, packet
        wire.mtu = 1500
        self.walls: set[tuple[int, int]] = set()
        wire.lose = lambda sender, datagram: False
        carry = wire.carry

        def through_walls(sender: Any, datagram: bytes, destination: Any) -> None:
            other = next((host.node.number for host in self.hosts if host.node.endpoint == destination), 0)
            if (sender.number, other) not in self.walls and sender.number not in self.dead and other not in self.dead:
                carry(sender, datagram, destination)

        self.dead: set[int] = set()
        self.hosts = [Host(wire.add()) for _ in range(count)]
        wire.carry = through_walls

    def part(self, one: Host, other: Host) -> None:
        numbers = one.node.number, other.node.number
        self.walls |= {numbers, numbers[::-1]}

    def open(self) -> None:
        self.walls.clear()

    def meet(self) -> None:
        for one in self.hosts:
            for other in self.hosts:
                if one is not other:
                    one.node.meet(other.node, records=True)

    def talks(self, one: Host, other: Host, seconds: float = 1.0) -> bool:
        """Let one say something to the other every tenth of a second; say whether all of the last second came."""
        for _ in range(round(seconds * 10)):
            one.say(other, self._packet(one.node.address, other.node.address))
            self.wire.run(0.1)
            other.heard()
        for _ in range(10):
            one.say(other, self._packet(one.node.address, other.node.address))
            self.wire.run(0.1)
        self.wire.run(0.2)
        return other.heard() == 10
