"""The data plane: a process of its own that carries packets between the TUN device and a UDP socket.

    python -m kairos_net_vpn.dataplane CONTROL TUN UDP      (file descriptors, opened by the plugin)

One thread, one epoll, blocking nowhere. The descriptors are the plugin's: so the device and its routes
outlive this process, and both vanish with the agent, since this process ends when the control socket closes.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import signal
import socket
import sys
import time

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kairos_net_vpn import messages
from kairos_net_vpn.confinement import give_up_privileges, shut_files
from kairos_net_vpn.drops import Refused
from kairos_net_vpn.endpoints import Endpoints
from kairos_net_vpn.handshakes import Sources
from kairos_net_vpn.inbound import Inbound
from kairos_net_vpn.messages import Ask, Configure, ForgetPeer, Moved, PeerStats, Ready, SetPeer, Stats
from kairos_net_vpn.noise import Local
from kairos_net_vpn.offloads import Offloads, has_aes
from kairos_net_vpn.outbound import Outbound
from kairos_net_vpn.peer import NEVER
from kairos_net_vpn.prefixes import Inside, Prefix
from kairos_net_vpn.tun import Tun
from kairos_net_vpn.tunnel import PeerState, Tunnel
from kairos_net_vpn.underlay import Underlay

DEVICE_GONE = 3
"""The exit code when somebody deleted the TUN device."""


class DataPlane:
    """The loop. Everything it decides is in Tunnel; here are only the system calls."""

    def __init__(self, control: socket.socket, tun: int, udp: socket.socket) -> None:
        self._control, self._tun, self._udp = control, tun, udp
        self._endpoints = Endpoints(udp.family)
        self._epoll = select.epoll()
        self._unread = b""
        self._unsent = b""
        for source in (control.fileno(), tun, udp.fileno()):
            os.set_blocking(source, False)
        self._epoll.register(control.fileno(), select.EPOLLIN)

    def run(self) -> int:
        """Serve until the control socket closes. Returns the exit code."""
        configure = self._wait_for_configuration()
        if configure is None:
            return 0
        self._tunnel = self._build(configure)
        drops = self._tunnel.drops
        self._device = Tun(self._tun, configure.allowed, drops)
        self._underlay = Underlay(self._udp, configure.allowed, drops)
        self._outbound = Outbound(self._tunnel, self._device, self._underlay)
        self._inbound = Inbound(self._tunnel, self._device, self._underlay, self._outbound)
        self._epoll.register(self._tun, select.EPOLLIN)
        self._epoll.register(self._udp.fileno(), select.EPOLLIN)
        _warn(shut_files())
        self._reply(Ready())
        try:
            while self._turn():
                pass
        except OSError as error:
            if error.errno in (errno.EBADFD, errno.ENODEV):
                return DEVICE_GONE
            raise
        return 0

    def _build(self, configure: Configure) -> Tunnel:
        self._uses_aes = configure.allowed.aes and has_aes()
        local = Local(X25519PrivateKey.from_private_bytes(configure.private_key), configure.psk)
        inside = self._inside(configure)
        return Tunnel(
            local,
            inside=inside,
            mtu=configure.mtu,
            timing=configure.timing,
            sources=Sources(os.urandom, time.time, self._endpoints.host_of),
            loops=lambda endpoint: inside.holds(self._endpoints.address_of(endpoint)),
            headers=self._endpoints.header_size,
            chacha=not self._uses_aes,
        )

    def _inside(self, configure: Configure) -> Inside:
        addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address] = [ipaddress.IPv4Address(configure.address)]
        subnets: list[Prefix] = [ipaddress.IPv4Network(configure.subnet)]
        if configure.ipv6:
            interface = ipaddress.IPv6Interface(configure.ipv6)
            addresses.append(interface.ip)
            subnets.append(interface.network)
        return Inside(
            frozenset(address.packed for address in addresses),
            tuple(subnets),
            _prefixes(configure.routes),
            self._udp.getsockname()[1],
        )

    def _turn(self) -> bool:
        """Wait for something to do and do it; False when the plugin is gone."""
        tunnel, now = self._tunnel, time.monotonic()
        if tunnel.wake <= now:
            tunnel.handle_timer(now)
            self._flush_outbox()
        timeout = -1.0 if tunnel.wake == NEVER else max(0.0, tunnel.wake - now)
        for source, event in self._epoll.poll(timeout):
            if source == self._tun:
                self._outbound.read(time.monotonic())
            elif source == self._udp.fileno():
                self._inbound.read(time.monotonic())
            elif not self._serve_control(event):
                return False
            self._flush_outbox()
        return True

    def _flush_outbox(self) -> None:
        for datagram, endpoint in self._tunnel.take_outbox():
            self._underlay.send(datagram, endpoint)

    # -- control

    def _wait_for_configuration(self) -> Configure | None:
        while b"\n" not in self._unread:
            self._epoll.poll()
            if not self._read_control():
                return None
        line, _, self._unread = self._unread.partition(b"\n")
        message = messages.decode(line)
        if not isinstance(message, Configure):
            raise ValueError("the first message to the data plane must configure it")
        return message

    def _serve_control(self, event: int) -> bool:
        if event & select.EPOLLOUT:
            self._reply_more()
        if event & ~select.EPOLLOUT and not self._read_control():
            return False
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            self._obey(messages.decode(line))
        return True

    def _read_control(self) -> bool:
        try:
            received = self._control.recv(1 << 16)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        self._unread += received
        return bool(received) and len(self._unread) <= messages.MAX_LINE

    def _obey(self, message: messages.Message) -> None:
        if isinstance(message, SetPeer):
            self._set_peer(message)
        elif isinstance(message, ForgetPeer):
            self._tunnel.forget_peer(message.key)
        elif isinstance(message, Moved):
            self._tunnel.greet_all(time.monotonic())
        elif isinstance(message, Ask):
            self._reply(self._stats(time.monotonic()))

    def _set_peer(self, message: SetPeer) -> None:
        state = PeerState(
            message.key,
            self._endpoints.parse_all(message.endpoints),
            frozenset(ipaddress.ip_address(address).packed for address in message.addresses),
            message.eager,
            _prefixes(message.routes),
            _prefixes(message.standby),
            records=message.records,
            psk=message.psk,
            keepalive=message.keepalive,
        )
        try:
            self._tunnel.set_peer(state, time.monotonic())
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1

    def _stats(self, now: float) -> Stats:
        peers = tuple(
            PeerStats(
                peer.remote.public,
                self._endpoints.format(peer.endpoint) if peer.endpoint else None,
                None if peer.last_handshake is None else now - peer.last_handshake,
                peer.sent,
                peer.received,
                peer.refused,
            )
            for peer in self._tunnel.table
        )
        device, underlay = self._device, self._underlay
        used = Offloads(device.vnet, device.tso, device.uso, underlay.gso, underlay.gro, self._uses_aes)
        return Stats(peers, {drop.value: count for drop, count in self._tunnel.drops.items()}, used)

    def _reply(self, message: messages.Message) -> None:
        self._unsent += messages.encode(message)
        self._reply_more()

    def _reply_more(self) -> None:
        """Send what the socket takes now: an agent that does not read must not stop the packets."""
        try:
            self._unsent = self._unsent[self._control.send(self._unsent) :]
        except BlockingIOError:
            pass
        except ConnectionError:
            return  # the read side sees the end
        waits = select.EPOLLOUT if self._unsent else 0
        self._epoll.modify(self._control.fileno(), select.EPOLLIN | waits)


def _prefixes(texts: tuple[str, ...]) -> tuple[Prefix, ...]:
    return tuple(map(ipaddress.ip_network, texts))


def _warn(refusals: list[str]) -> None:
    if refusals:
        sys.stderr.write(f"the VPN's data plane could not give up all it should: {'; '.join(refusals)}\n")


def main(arguments: list[str]) -> int:
    """Run with three inherited file descriptors: control socket, TUN device, UDP socket."""
    # A Ctrl-C in the agent's terminal is the agent's to handle: it leaves in order and closes the control
    # socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _warn(give_up_privileges())
    control, tun, udp = (int(text) for text in arguments)
    return DataPlane(socket.socket(fileno=control), tun, socket.socket(fileno=udp)).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
