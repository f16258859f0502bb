"""The data plane: a process of its own that carries packets between the TUN device and a UDP socket.

    python -m kairos_net_vpn.dataplane CONTROL TUN UDP [DOOR]      (file descriptors, opened by the plugin)

One thread, one poll, blocking nowhere. The descriptors are the plugin's: so the device and its routes outlive this
process. This process in turn outlives an agent that was killed, for the next one to take over: see `control`.
"""

from __future__ import annotations

import base64
import errno
import ipaddress
import os
import select
import signal
import socket
import sys
import time
from functools import partial

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from kairos_net_vpn import messages, small
from kairos_net_vpn.busypoll import BusyPoll
from kairos_net_vpn.carriage import Carriage
from kairos_net_vpn.confinement import give_up_privileges, shut_files
from kairos_net_vpn.control import Control, Estate
from kairos_net_vpn.drops import Refused, VpnDrop
from kairos_net_vpn.endpoints import Endpoints
from kairos_net_vpn.handshakes import Sources
from kairos_net_vpn.hotlines import Hotlines
from kairos_net_vpn.inbound import Inbound
from kairos_net_vpn.messages import Ask, Configure, ForgetPeer, Moved, PeerStats, Ready, SetPeer, Stats
from kairos_net_vpn.noise import Local
from kairos_net_vpn.offloads import Offloads, has_aes
from kairos_net_vpn.outbound import Outbound
from kairos_net_vpn.pages import use_huge_pages
from kairos_net_vpn.paths import Underground
from kairos_net_vpn.peer import NEVER, Peer
from kairos_net_vpn.prefixes import Inside, Prefix
from kairos_net_vpn.program import name_of_program
from kairos_net_vpn.tun import Tun
from kairos_net_vpn.tunnel import PeerState, Tunnel

_now = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Returns monotonic seconds that go on while the machine sleeps: after it, sessions are as old as for the peers."""

DEVICE_GONE = 3
"""The exit code when somebody deleted the TUN device."""


class DataPlane:
    """The loop. Everything it decides is in Tunnel; here are only the system calls."""

    def __init__(self, control: Control, tun: int, udp: socket.socket) -> None:
        self._control, self._tun, self._udp = control, tun, udp
        self._endpoints = Endpoints(udp.family)
        self._poller = control.poller
        self._polling = BusyPoll(self._poller.poll, _now)
        for source in (tun, udp.fileno()):
            os.set_blocking(source, False)

    def run(self) -> int:
        """Serve until the agent leaves, or has been gone for too long. Returns the exit code."""
        code = name_of_program()
        configure = self._control.configuration()
        if configure is None:
            return 0
        self._tunnel = self._build(configure)
        self._control.drops = drops = self._tunnel.drops
        self._device = Tun(self._tun, configure.allowed, drops)
        self._underlay = Carriage(self._udp, configure.allowed, self._tunnel, _now)
        self._outbound = Outbound(self._tunnel, self._device, self._underlay)
        self._inbound = Inbound(self._tunnel, self._device, self._underlay, self._outbound)
        self._hotlines = Hotlines(self._udp, self._poller, self._endpoints, self._inbound)
        self._poller.register(self._tun, select.POLLIN)
        self._poller.register(self._udp.fileno(), select.POLLIN)
        use_huge_pages()
        small.load()
        _warn(shut_files(sys.path))
        estate = Estate(self._tun, self._udp.fileno(), configure.digest(), code)
        self._control.open_door(estate, configure.timing.linger)
        self._control.reply(Ready(code))
        for message in self._control.early:
            self._obey(message)
        try:
            self._serve()
        except OSError as error:
            if error.errno in (errno.EBADFD, errno.ENODEV):
                return DEVICE_GONE
            raise
        finally:
            self._leave()
        return 0

    def _leave(self) -> None:
        """Let go of everything, the control socket last: then whoever waits there knows that the device is free."""
        os.close(self._tun)
        self._hotlines.close()
        self._udp.close()
        self._control.close()

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
            underground=Underground(
                headers=self._endpoints.header_size,
                describe=self._endpoints.format,
                loops=lambda endpoint: inside.holds(self._endpoints.address_of(endpoint)),
            ),
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

    def _serve(self) -> None:
        """Wait for something to do and do it, until it is time to end. Raises OSError when the device is gone."""
        tunnel, control, polling = self._tunnel, self._control, self._polling
        inbound, outbound, hotlines = self._inbound, self._outbound, self._hotlines
        stay, sleep, wait = polling.stay, polling.sleep, polling.wait
        tun, udp, (handshakes, probes) = self._tun, self._udp.fileno(), tunnel.outboxes
        conversing = hotlines.by_descriptor
        now, has_waited = _now(), False
        while not control.is_over:
            if tunnel.wake <= now or inbound.wake <= now or hotlines.wake <= now or control.ends_at <= now:
                if control.ends_at <= now:
                    return
                self._handle_timers(now)
            events = stay() if inbound.is_streaming else sleep() if outbound.is_streaming else None
            if not events:
                wake = min(tunnel.wake, inbound.wake, hotlines.wake, control.ends_at)
                events = wait(-1.0 if wake == NEVER else max(0.0, wake - polling.woke))
            for source, event in events:
                if source == udp:
                    inbound.read(polling.woke)
                    hotlines.note_calm(tunnel.table, polling.woke)
                elif source == tun:
                    # While a stream comes in, these are its acknowledgements: two in a datagram cost little more
                    # than one. So they wait for what is there already, once.
                    has_waited = inbound.is_streaming and len(events) > 1 and not has_waited
                    if has_waited:
                        continue
                    outbound.read(polling.woke)
                elif source in conversing:
                    hotlines.read(conversing[source], polling.woke)
                else:
                    for message in control.serve(source, event, _now()):
                        self._obey(message)
                if handshakes or probes:
                    self._flush_outbox()
            now = polling.woke

    def _handle_timers(self, now: float) -> None:
        if self._tunnel.wake <= now:
            self._tunnel.handle_timer(now)
            self._flush_outbox()
        if self._inbound.wake <= now:
            self._inbound.handle_timer(now)
        if self._hotlines.wake <= now:
            self._hotlines.handle_timer(now)

    def _flush_outbox(self) -> None:
        self._underlay.flush(self._tunnel.take_outbox())

    # -- what the agent asks for

    def _obey(self, message: messages.Message) -> None:
        try:
            if isinstance(message, SetPeer):
                self._set_peer(message)
            elif isinstance(message, ForgetPeer):
                self._tunnel.forget_peer(message.key)
            elif isinstance(message, Moved):
                self._tunnel.greet_all(_now())
            elif isinstance(message, Ask):
                self._control.reply(self._stats(_now()))
        except ValueError:  # a message, but with an address or a key that is none
            self._tunnel.drops[VpnDrop.BAD_MESSAGE] += 1

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
            self._tunnel.set_peer(state, _now())
        except Refused as refused:
            self._tunnel.drops[refused.drop] += 1

    def _stats(self, now: float) -> Stats:
        peers = tuple(
            PeerStats(
                peer.remote.public,
                self._endpoints.format(peer.endpoint) if peer.endpoint and not peer.relay else None,
                None if peer.last_handshake is None else now - peer.last_handshake,
                peer.sent,
                peer.received,
                peer.refused,
                *self._path(peer),
            )
            for peer in self._tunnel.table
        )
        device, underlay = self._device, self._underlay
        used = Offloads(device.vnet, device.tso, device.uso, underlay.gso, underlay.gro, self._uses_aes)
        drops = {drop.value: count for drop, count in self._tunnel.drops.items()}
        return Stats(peers, drops, used, self._tunnel.paths.seen_at())

    def _path(self, peer: Peer) -> tuple[str | None, int | None]:
        """Return how a peer is reached, and the path MTU once it is known."""
        if peer.relay is not None:
            return f"relay {base64.b64encode(peer.relay).decode()}", None
        return "direct" if peer.endpoint else None, peer.path.mtu.found


def _prefixes(texts: tuple[str, ...]) -> tuple[Prefix, ...]:
    return tuple(map(ipaddress.ip_network, texts))


def _warn(refusals: list[str]) -> None:
    if refusals:
        sys.stderr.write(f"the VPN's data plane could not give up all it should: {'; '.join(refusals)}\n")


def main(arguments: list[str]) -> int:
    """Run with inherited file descriptors: control socket, TUN device, UDP socket, and a door to be found at."""
    # A Ctrl-C in the agent's terminal is the agent's to handle: it leaves in order, and says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _warn(give_up_privileges())
    control, tun, udp, *door = (int(text) for text in arguments)
    opened = Control(socket.socket(fileno=control), socket.socket(fileno=door[0]) if door else None)
    return DataPlane(opened, tun, socket.socket(fileno=udp)).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
